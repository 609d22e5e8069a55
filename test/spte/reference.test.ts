/** The reference's SPTE constructors against entries that processors were given. */
import { describe, expect, it } from "vitest";
import { SPTE_AD } from "../../src/abi/spte.js";
import {
  ACC,
  type LeafSpte,
  makeChangedPfn,
  makeExecutable,
  makeLeaf,
  makeMmio,
  makeNonLeaf,
  makePdpte,
  makeSplitChild,
  markForAccessTracking,
  restoreAccessTracked,
} from "../../src/reference/spte.js";
import { brokenInvariants, eptMasks, legacyMasks, legacyReserved } from "../../src/spte/index.js";

const ALL = ACC.Exec | ACC.Write | ACC.User;
const EPT = eptMasks({ physBits: 40, l1tfCacheBits: 40 });
const EPT_NO_AD = eptMasks({ physBits: 40, l1tfCacheBits: 40, accessedDirty: false });
const LEGACY = legacyMasks({ physBits: 40 });
/** Write-back, guest PAT ignored. */
const WB = 0x70n;

const leaf = (over: Partial<LeafSpte> = {}): bigint =>
  makeLeaf({
    masks: EPT,
    level: 1,
    pfn: 0n,
    access: ALL,
    adType: SPTE_AD.Enabled,
    hostWritable: true,
    prefetch: false,
    nxHugePages: false,
    writeProtect: false,
    mmioPage: false,
    memtype: WB,
    old: 0n,
    ...over,
  }).spte;
const noAd = (over: Partial<LeafSpte> = {}) => leaf({ masks: EPT_NO_AD, adType: SPTE_AD.Disabled, ...over });
const legacy = (over: Partial<LeafSpte> = {}) => leaf({ masks: LEGACY, memtype: 0n, ...over });

describe("EPT entries that a processor with A/D bits was given", () => {
  it.each([
    ["4 KiB, demand", leaf(), 0x0600_0000_0000_0b77n],
    ["4 KiB, prefetched", leaf({ prefetch: true }), 0x0600_0000_0000_0a77n],
    ["4 KiB, read-only slot", leaf({ hostWritable: false }), 0x975n],
    ["2 MiB", leaf({ level: 2 }), 0x0600_0000_0000_0bf7n],
    ["2 MiB under the NX-huge-page mitigation", leaf({ level: 2, nxHugePages: true }), 0x0600_0000_0000_0bf3n],
    ["4 KiB under the mitigation stays executable", leaf({ nxHugePages: true }), 0x0600_0000_0000_0b77n],
    ["nested, with a page-modification log", leaf({ adType: SPTE_AD.WriteProtect }), 0x0620_0000_0000_0b77n],
    ["non-leaf", makeNonLeaf(0n, false, EPT), 0x907n],
  ])("%s", (_, spte, expected) => {
    expect(spte).toBe(expected);
  });
});

describe("EPT entries without A/D bits", () => {
  it.each([
    ["4 KiB, demand", noAd(), 0x0610_0000_0000_0877n],
    ["4 KiB, read-only slot", noAd({ hostWritable: false }), 0x0010_0000_0000_0875n],
    ["4 KiB, prefetched: access-tracked", noAd({ prefetch: true }), 0x0750_0000_0000_0870n],
    ["non-leaf", makeNonLeaf(0n, true, EPT_NO_AD), 0x0010_0000_0000_0807n],
    ["nested without A/D on a processor with", leaf({ adType: SPTE_AD.Disabled }), 0x0610_0000_0000_0877n],
  ])("%s", (_, spte, expected) => {
    expect(spte).toBe(expected);
  });
});

describe("MMIO entries", () => {
  it("gpa 0x80000000, generation 6 on a processor with the L1TF bug: 0xf880000036", () => {
    expect(makeMmio(0x80000n, ALL, 6, EPT)).toBe(0xf880000036n);
  });

  it("address bits under the guard move up by five", () => {
    // guard at 39:35; gpa bit 36 is under it and goes to bit 41
    expect(makeMmio(1n << 24n, 0, 0, EPT)).toBe(0xf800000006n | (1n << 41n) | (1n << 36n));
  });

  it("the generation is split over bits 10:3 and 62:52", () => {
    const bits = (generation: number) => makeMmio(0n, 0, generation, LEGACY) ^ makeMmio(0n, 0, 0, LEGACY);
    expect(bits(0xff)).toBe(0xffn << 3n);
    expect(bits(0x7ff00)).toBe(0x7ffn << 52n);
    expect(bits(0x80000)).toBe(0n);
  });

  it("legacy entries keep write and user rights, EPT entries none", () => {
    expect(makeMmio(0n, ALL, 0, LEGACY)).toBe((1n << 51n) | 7n);
    expect(makeMmio(0n, ACC.Exec, 0, LEGACY)).toBe((1n << 51n) | 1n);
    expect(makeMmio(0n, ALL, 0, eptMasks({ physBits: 40 }))).toBe(6n);
  });
});

describe("legacy entries", () => {
  it.each([
    ["demand", legacy(), 0xe67n],
    ["prefetched", legacy({ prefetch: true }), 0xe47n],
    ["supervisor, not executable", legacy({ access: ACC.Write }), (1n << 63n) | 0xe63n],
    ["user, read-only", legacy({ access: ACC.User | ACC.Exec }), 0xa25n],
    ["read-only slot", legacy({ hostWritable: false }), 0x825n],
    ["write-protected guest table", legacy({ writeProtect: true }), 0xa25n],
    ["2 MiB", legacy({ level: 2 }), 0xee7n],
    ["non-leaf", makeNonLeaf(0x5000n, false, LEGACY), 0x5827n],
    ["PDPTE", makePdpte(0x5000n, LEGACY), 0x5801n],
  ])("%s", (_, spte, expected) => {
    expect(spte).toBe(expected);
  });

  it("says when it refused the write right, and only then", () => {
    const made = (over: Partial<LeafSpte>) =>
      makeLeaf({
        masks: LEGACY,
        level: 1,
        pfn: 0n,
        access: ALL,
        adType: 0,
        hostWritable: true,
        prefetch: false,
        nxHugePages: false,
        writeProtect: true,
        mmioPage: false,
        memtype: 0n,
        old: 0n,
        ...over,
      }).writeProtected;
    expect(made({})).toBe(true);
    expect(made({ access: ACC.User })).toBe(false);
    expect(made({ hostWritable: false })).toBe(false);
    expect(made({ old: legacy() })).toBe(false);
  });

  it("a writable leaf is replaced without asking for write protection, nor marked dirty again", () => {
    const replaced = legacy({ writeProtect: true, old: legacy() });
    expect(replaced).toBe(0xe27n);
    // a non-leaf entry is writable too, but no leaf
    expect(legacy({ level: 2, writeProtect: true, old: makeNonLeaf(0n, false, LEGACY) })).toBe(0xaa5n);
  });

  it("encrypts memory, tables and PDPTEs, but not device pages", () => {
    const mask = 1n << 47n;
    const masks = legacyMasks({ physBits: 48, addressBits: 43, encryption: { mask, value: mask } });
    expect(legacy({ masks }) & mask).toBe(mask);
    expect(legacy({ masks, mmioPage: true }) & mask).toBe(0n);
    expect(makeNonLeaf(0n, false, masks) & mask).toBe(mask);
    expect(makePdpte(0n, masks) & mask).toBe(mask);
    expect(makeMmio(0n, 0, 0, masks) & mask).toBe(0n);
  });

  it("a PDPTE sets nothing that the processor reserves in one", () => {
    const reserved = legacyReserved(LEGACY, { rootLevel: 3, nx: true, page1g: true });
    expect(brokenInvariants(makePdpte(0xff_ffff_f000n, LEGACY), { masks: LEGACY, level: 3, reserved })).toEqual([]);
    expect(brokenInvariants(makeNonLeaf(0n, false, LEGACY), { masks: LEGACY, level: 3, reserved })).toEqual([
      "reserved bits 0x26 are set",
    ]);
  });
});

describe("splitting a huge page", () => {
  const huge = leaf({ level: 2, pfn: 0x200n });

  it("4 KiB children map its frames one after the other", () => {
    const child = (index: number) => makeSplitChild(huge, index, { level: 1, access: ALL, nxHugePages: false }, EPT);
    expect(child(0)).toBe(0x0600_0000_0020_0b77n);
    expect(child(511)).toBe(0x0600_0000_003f_fb77n);
  });

  it("2 MiB children of a 1 GiB page stay large", () => {
    const child = makeSplitChild(leaf({ level: 3 }), 3, { level: 2, access: ALL, nxHugePages: true }, EPT);
    expect(child).toBe(0x0600_0000_0060_0bf7n);
  });

  it("4 KiB children get the execute right back that the mitigation took, if their table has it", () => {
    const restricted = leaf({ level: 2, nxHugePages: true });
    const child = (access: number) => makeSplitChild(restricted, 0, { level: 1, access, nxHugePages: true }, EPT);
    expect(child(ALL)).toBe(0x0600_0000_0000_0b77n);
    expect(child(ACC.Write | ACC.User)).toBe(0x0600_0000_0000_0b73n);
    expect(makeSplitChild(restricted, 0, { level: 1, access: ALL, nxHugePages: false }, EPT)).toBe(
      0x0600_0000_0000_0b73n,
    );
  });

  it("an access-tracked child is tracked with its execute right saved", () => {
    const tracked = noAd({ level: 2, nxHugePages: true, prefetch: true });
    const child = makeSplitChild(tracked, 0, { level: 1, access: ALL, nxHugePages: true }, EPT_NO_AD);
    expect(child).toBe(0x0750_0000_0000_0870n);
  });
});

describe("access tracking", () => {
  it("takes the accessed bit where there is one", () => {
    expect(markForAccessTracking(leaf(), EPT)).toBe(leaf() & ~0x100n);
    expect(markForAccessTracking(legacy(), LEGACY)).toBe(legacy() & ~0x20n);
  });

  it("saves read and execute, not write, and gives them back", () => {
    const tracked = markForAccessTracking(noAd(), EPT_NO_AD);
    expect(tracked).toBe(0x0750_0000_0000_0870n);
    expect(restoreAccessTracked(tracked, EPT_NO_AD)).toBe(noAd() & ~2n);
    expect(markForAccessTracking(tracked, EPT_NO_AD)).toBe(tracked);
  });

  it("saves what there was of an execute-only entry", () => {
    const tracked = markForAccessTracking(noAd({ access: ACC.Exec }), EPT_NO_AD);
    expect(restoreAccessTracked(tracked, EPT_NO_AD) & 7n).toBe(4n);
  });

  it("making an entry executable clears execute-disable or sets execute", () => {
    expect(makeExecutable(legacy({ access: ACC.User }), LEGACY)).toBe(legacy({ access: ACC.User | ACC.Exec }));
    expect(makeExecutable(leaf({ access: ACC.User }), EPT)).toBe(leaf({ access: ACC.User | ACC.Exec }));
  });
});

describe("a page that the host moved", () => {
  it("is mapped at the new frame, neither writable nor accessed", () => {
    expect(makeChangedPfn(legacy({ pfn: 0x123n }), 0x456n, LEGACY)).toBe(0x456845n);
    expect(makeChangedPfn(leaf({ pfn: 0x123n }), 0x456n, EPT)).toBe(0x456a75n);
    expect(makeChangedPfn(noAd({ pfn: 0x123n }), 0x456n, EPT_NO_AD)).toBe(0x0150_0000_0045_6870n);
  });

  it("keeps its encryption bit, which is no address bit", () => {
    const bit = 1n << 47n;
    const masks = legacyMasks({ physBits: 40, encryption: { mask: bit, value: bit } });
    expect(makeChangedPfn(leaf({ masks, pfn: 0x123n, memtype: 0n }), 0x456n, masks)).toBe(bit | 0x456845n);
  });
});
