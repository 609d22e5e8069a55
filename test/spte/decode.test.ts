/** Decoding SPTEs, their invariants and reserved bits. */
import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bitOf, maskOf } from "../../src/abi/bits.js";
import { SPTE, SPTE_AD, SPTE_EPT, SPTE_LEGACY, SPTE_MMIO } from "../../src/abi/spte.js";
import { ConfigError } from "../../src/errors.js";
import { makeLeaf, makeMmio, makeNonLeaf, makePdpte } from "../../src/reference/spte.js";
import {
  brokenInvariants,
  decodeSpte,
  defaultMasks,
  eptMasks,
  eptReserved,
  legacyMasks,
  legacyReserved,
  type SpteFormat,
  type SpteMasks,
  withMmioMark,
} from "../../src/spte/index.js";

const LEGACY = legacyMasks({ physBits: 40 });
const EPT = eptMasks({ physBits: 40, l1tfCacheBits: 40 });
const EPT_NO_AD = eptMasks({ physBits: 40, accessedDirty: false });

const names = (word: bigint, format: SpteFormat, masks?: SpteMasks) =>
  decodeSpte(word, masks ? { format, masks } : { format }).fields.map((field) => field.name);

describe("bit tables", () => {
  it.each([SPTE_LEGACY, SPTE_EPT])("$title does not overlap the software bits", (format) => {
    let taken = 0n;
    for (const field of [...SPTE.fields, ...format.fields.filter((field) => field.name !== "MMIO_RSVD")]) {
      expect(taken & maskOf(field), field.name).toBe(0n);
      taken |= maskOf(field);
    }
  });

  it("the generation of an MMIO entry leaves room for the mark, the address and bit 11", () => {
    const generation = bitOf(SPTE_MMIO, "GEN_LOW") | bitOf(SPTE_MMIO, "GEN_HIGH");
    const used = bitOf(SPTE, "MMU_PRESENT") | bitOf(SPTE, "ADDRESS") | LEGACY.mmio | EPT.mmio | LEGACY.mmioAccess;
    expect(generation & used).toBe(0n);
  });
});

describe("decoding", () => {
  it("names the bits of a legacy leaf", () => {
    const decoded = decodeSpte(0x29cbe63n, { format: "shadow" });
    expect(decoded).toMatchObject({ kind: "leaf", address: 0x29cb000n, unknown: 0n });
    expect(decoded.rights).toEqual({ read: true, write: true, execute: true, user: false });
    expect(names(0x29cbe63n, "shadow")).toEqual([
      "P",
      "RW",
      "A",
      "D",
      "HOST_WRITABLE",
      "MMU_WRITABLE",
      "MMU_PRESENT",
      "ADDRESS",
    ]);
  });

  it("tells a table from a leaf without the level", () => {
    expect(decodeSpte(0x8ab3827n, { format: "npt" }).kind).toBe("non-leaf");
    expect(decodeSpte(0x1000907n, { format: "ept" }).kind).toBe("non-leaf");
    expect(decodeSpte(0x0600_0000_0020_0bf7n, { format: "ept" }).kind).toBe("leaf");
  });

  it("decodes the MMIO entry of a processor with the L1TF bug", () => {
    expect(decodeSpte(0xf880000036n, { format: "ept", masks: EPT })).toMatchObject({
      kind: "mmio",
      mmio: { gfn: 0x80000n, access: 0, generation: 6 },
      unknown: 0n,
    });
  });

  it("an access-tracked entry shows the rights that it gets back", () => {
    const decoded = decodeSpte(0x0750_0000_0000_1870n, { format: "ept", masks: EPT_NO_AD });
    expect(decoded.kind).toBe("access-tracked");
    expect(decoded.rights).toEqual({ read: true, write: false, execute: true, user: true });
  });

  it.each([
    [0n, "none"],
    [0x5a0n, "removed"],
    [0x8ab3001n, "special-root"],
    [0x8ab3027n, "special-root"],
    [0x123000n, "not-present"],
    [0x40n, "not-present"],
  ])("0x%s is of its own kind", (word, kind) => {
    expect(decodeSpte(word as bigint, { format: "shadow", masks: LEGACY }).kind).toBe(kind);
  });

  it("does not take the encryption bit for a part of the address", () => {
    const mask = 1n << 47n;
    const masks = legacyMasks({ physBits: 48, addressBits: 43, encryption: { mask, value: mask } });
    expect(decodeSpte(makeNonLeaf(0x5000n, false, masks), { format: "npt", masks })).toMatchObject({
      address: 0x5000n,
      unknown: 0n,
    });
  });

  it("a PDPTE is named when the caller says so", () => {
    const word = makePdpte(0x5000n, LEGACY);
    expect(decodeSpte(word, { format: "shadow", masks: LEGACY, level: 3, pdpte: true })).toMatchObject({
      kind: "pdpte",
      address: 0x5000n,
      unknown: 0n,
    });
  });

  it("reports bits that mean nothing", () => {
    expect(decodeSpte(0xe67n | (1n << 59n), { format: "npt", masks: LEGACY }).unknown).toBe(1n << 59n);
    expect(decodeSpte(0xe67n | (1n << 45n), { format: "npt", masks: LEGACY }).unknown).toBe(1n << 45n);
    expect(decodeSpte(0xb77n | (1n << 10n), { format: "ept", masks: EPT }).unknown).toBe(1n << 10n);
  });

  it("does not take MMIO for such where it is not cached", () => {
    const masks = eptMasks({ physBits: 40, mmioCaching: false });
    expect(decodeSpte(0x80000036n, { format: "ept", masks }).kind).toBe("not-present");
    const wide = legacyMasks({ physBits: 52 });
    expect(wide.mmioValue).toBe(0n);
  });

  it.each([-1n, 1n << 64n])("refuses %s", (word) => {
    expect(() => decodeSpte(word, { format: "ept" })).toThrow(ConfigError);
  });

  it.each([31, 53, 40.5])("refuses %d physical-address bits", (physBits) => {
    expect(() => legacyMasks({ physBits })).toThrow(ConfigError);
  });

  it("refuses an encryption value outside its mask", () => {
    expect(() => eptMasks({ physBits: 46, encryption: { mask: 1n, value: 2n } })).toThrow(ConfigError);
  });
});

describe("the mark of MMIO entries", () => {
  it.each([
    ["the generation", 1n << 62n, 1n << 62n],
    ["bit 11", 1n << 11n, 1n << 11n],
    ["a guest frame number", 1n << 20n, 1n << 20n],
    ["a value outside the mask", 1n, 3n],
  ])("must not need %s", (_, mask, value) => {
    expect(() => withMmioMark(LEGACY, mask, value)).toThrow(ConfigError);
  });
});

describe("round trips", () => {
  const masksOf = fc.constantFrom<[SpteFormat, SpteMasks]>(
    ["shadow", LEGACY],
    ["npt", legacyMasks({ physBits: 46, l1tfCacheBits: 44 })],
    ["ept", EPT],
    ["ept", eptMasks({ physBits: 46, executeOnly: false })],
    ["ept", EPT_NO_AD],
  );

  it("MMIO entries give back gfn, rights and generation", () => {
    const frame = fc.bigInt({ min: 0n, max: (1n << 28n) - 1n });
    fc.assert(
      fc.property(
        masksOf,
        frame,
        fc.nat({ max: 7 }),
        fc.nat({ max: 0x7ffff }),
        ([format, masks], gfn, access, generation) => {
          const decoded = decodeSpte(makeMmio(gfn, access, generation, masks), { format, masks });
          const kept = access & Number(masks.mmioAccess);
          expect(decoded).toMatchObject({ kind: "mmio", mmio: { gfn, access: kept, generation }, unknown: 0n });
        },
      ),
    );
  });

  it("every constructed leaf decodes to what it was made of, and keeps the invariants", () => {
    const flags = fc.array(fc.boolean(), { minLength: 5, maxLength: 5 });
    const inputs = fc.tuple(masksOf, fc.nat({ max: 7 }), fc.constantFrom(1, 2, 3), fc.nat({ max: 1023 }), flags);
    fc.assert(
      fc.property(
        inputs,
        ([[format, masks], access, level, frame, [hostWritable, prefetch, nxHugePages, writeProtect, mmioPage]]) => {
          const adType = masks.accessed === 0n ? SPTE_AD.Disabled : SPTE_AD.Enabled;
          // Without execute-only support a leaf is readable; nothing maps a page without any right.
          const rights =
            masks.present === 0n && access === 2
              ? 7
              : access === 0
                ? 4
                : access | (format === "ept" && masks.present === 0n && access & 2 ? 4 : 0);
          const pfn = BigInt(frame) << BigInt(9 * (level - 1));
          const { spte } = makeLeaf({
            masks,
            level,
            pfn,
            access: rights,
            adType,
            hostWritable: hostWritable!,
            prefetch: prefetch!,
            nxHugePages: nxHugePages!,
            writeProtect: writeProtect!,
            mmioPage: mmioPage!,
            memtype: 0x70n,
            old: 0n,
          });
          const decoded = decodeSpte(spte, { format, masks, level });
          const tracked = adType === SPTE_AD.Disabled && (prefetch! || (spte & masks.accTrack) === 0n);
          expect(decoded).toMatchObject({
            kind: tracked ? "access-tracked" : "leaf",
            address: pfn << 12n,
            unknown: 0n,
          });
          const executable = (rights & 1) !== 0 && !(level > 1 && nxHugePages);
          expect(decoded.rights!.execute).toBe(executable);
          expect(decoded.rights!.write).toBe((rights & 2) !== 0 && hostWritable! && !writeProtect && !tracked);
          const reserved =
            format === "ept"
              ? eptReserved(masks, { executeOnly: masks.present === 0n, maxPageLevel: 3 })
              : legacyReserved(masks, { rootLevel: 4, nx: true, page1g: true });
          expect(brokenInvariants(spte, { masks, level, reserved })).toEqual([]);
        },
      ),
      { numRuns: 3000 },
    );
  });

  it("every constructed table entry decodes as one", () => {
    const table = fc.bigInt({ min: 0n, max: (1n << 28n) - 1n }).map((frame) => frame << 12n);
    fc.assert(
      fc.property(masksOf, table, fc.boolean(), ([format, masks], address, adDisabled) => {
        const decoded = decodeSpte(makeNonLeaf(address, adDisabled, masks), { format, masks });
        expect(decoded).toMatchObject({ kind: "non-leaf", address, unknown: 0n });
      }),
    );
  });
});

describe("recorded entries", () => {
  interface Group {
    format: SpteFormat;
    masks: Record<string, string | number>;
    sptes: [level: number, spte: string][];
  }
  const file = new URL("../fixtures/spte/recorded.json", import.meta.url);
  const groups = JSON.parse(readFileSync(file, "utf8")) as Group[];
  const masksOf = ({ masks }: Group): SpteMasks => {
    const of = (name: string) => BigInt(masks[name] ?? 0);
    return {
      user: of("user_mask"),
      accessed: of("accessed_mask"),
      dirty: of("dirty_mask"),
      nx: of("nx_mask"),
      x: of("x_mask"),
      present: of("present_mask"),
      me: of("me_mask"),
      meValue: of("me_value"),
      memtype: of("memtype_mask"),
      accTrack: of("acc_track_mask"),
      hostWritable: of("host_writable_mask"),
      mmuWritable: of("mmu_writable_mask"),
      mmio: of("mmio_mask"),
      mmioValue: of("mmio_value"),
      mmioAccess: of("mmio_access_mask"),
      nonpresentOrRsvd: of("nonpresent_or_rsvd_mask"),
      lowerGfn: of("nonpresent_or_rsvd_lower_gfn_mask"),
      physBits: Number(masks.phys_bits),
    };
  };

  it.each(groups.map((group, index) => [index, group] as const))(
    "group %i: every bit has a meaning, no invariant is broken",
    (_, group) => {
      const masks = masksOf(group);
      for (const [level, text] of group.sptes) {
        const decoded = decodeSpte(BigInt(text), { format: group.format, masks, level });
        expect(decoded.unknown, text).toBe(0n);
        expect(decoded.kind, text).not.toBe("not-present");
        expect(brokenInvariants(BigInt(text), { masks, level }), text).toEqual([]);
      }
    },
  );

  it.each(groups.map((group, index) => [index, group] as const))(
    "group %i: the masks are those of its processor",
    (_, group) => {
      const masks = masksOf(group);
      const bits = (mask: bigint) => mask.toString(2).length;
      const options = {
        physBits: masks.physBits,
        ...(masks.nonpresentOrRsvd !== 0n && { l1tfCacheBits: bits(masks.nonpresentOrRsvd) }),
        mmioCaching: masks.mmioValue !== 0n,
      };
      const made =
        group.format === "ept"
          ? eptMasks({ ...options, accessedDirty: masks.accessed !== 0n, executeOnly: masks.present === 0n })
          : legacyMasks(options);
      expect(made).toEqual(masks);
    },
  );

  it("cover every kind that a kernel stores", () => {
    const kinds = new Set(
      groups.flatMap((group) =>
        group.sptes.map(
          ([level, text]) => decodeSpte(BigInt(text), { format: group.format, masks: masksOf(group), level }).kind,
        ),
      ),
    );
    expect(kinds).toEqual(new Set(["leaf", "non-leaf", "mmio", "access-tracked"]));
  });
});

describe("reserved bits", () => {
  const hex = (rows: readonly bigint[]) => rows.map((bits) => `0x${bits.toString(16)}`);
  const P40 = "0xfff0000000000";

  it.each([3, 2])("of EPT, pages up to level %i: as recorded", (maxPageLevel) => {
    const { bits } = eptReserved(EPT, { executeOnly: false, maxPageLevel });
    const no1g = maxPageLevel === 2;
    const small = [P40, "0xfff0000000078", no1g ? "0xfff00000000f8" : "0xfff0000000078", "0xfff00000000f8"];
    const large = [P40, "0xfff00001ff000", no1g ? "0xfff003ffff080" : "0xfff003ffff000", "0xfff00000000f8"];
    expect([hex(bits[0]).slice(0, 4), hex(bits[1]).slice(0, 4)]).toEqual([small, large]);
  });

  it.each([
    [4, true],
    [5, true],
    [4, false],
  ])("of %i-level tables, 1 GiB pages %s: as recorded", (rootLevel, page1g) => {
    const { bits } = legacyReserved(LEGACY, { rootLevel, nx: true, page1g });
    const top = new Array(rootLevel - 3).fill("0xfff0000000180");
    const small = [P40, P40, page1g ? P40 : "0xfff0000000080", ...top];
    const large = [P40, "0xfff00001fe000", page1g ? "0xfff003fffe000" : "0xfff003fffe080", ...top];
    expect([hex(bits[0]).slice(0, rootLevel), hex(bits[1]).slice(0, rootLevel)]).toEqual([small, large]);
  });

  it("of PAE tables: as recorded", () => {
    const { bits } = legacyReserved(LEGACY, { rootLevel: 3, nx: true, page1g: true });
    expect(hex(bits[0]).slice(0, 3)).toEqual(["0x7fffff0000000000", "0x7fffff0000000000", "0xffffff00000001e6"]);
    expect(hex(bits[1]).slice(0, 2)).toEqual(["0x7fffff0000000000", "0x7fffff00001fe000"]);
  });
});

describe("invariants", () => {
  const check = (word: bigint, masks = LEGACY, level = 1) => brokenInvariants(word, { masks, level });

  it("MMU-writable implies host-writable", () => {
    expect(check(0xc21n)).toEqual(["MMU-writable but not host-writable"]);
    expect(check(0x0400_0000_0000_0975n, EPT)).toEqual(["MMU-writable but not host-writable"]);
  });

  it("writable implies MMU-writable, in leaves", () => {
    expect(check(0xa23n)).toEqual(["writable but not MMU-writable"]);
    expect(check(0x827n, LEGACY, 2)).toEqual([]);
    expect(check(0xaa7n, LEGACY, 2)).toEqual(["writable but not MMU-writable"]);
  });

  it("rights are saved only while an entry is access-tracked", () => {
    expect(check(0x0610_0000_0000_0877n | (1n << 54n), EPT_NO_AD)).toEqual([
      "saved rights in an entry that is not access-tracked",
    ]);
  });

  it("nothing that the format reserves is set", () => {
    const reserved = legacyReserved(LEGACY, { rootLevel: 4, nx: false, page1g: false });
    const broken = (word: bigint, level: number) => brokenInvariants(word, { masks: LEGACY, level, reserved });
    expect(broken(0x821n, 1)).toEqual([]);
    expect(broken(0x821n | (1n << 40n), 1)).toEqual(["reserved bits 0x10000000000 are set"]);
    expect(broken(0x821n | (1n << 63n), 1)).toEqual(["reserved bits 0x8000000000000000 are set"]);
    expect(broken(0x8a1n | (1n << 13n), 2)).toEqual(["reserved bits 0x2000 are set"]);
    expect(broken(0x8a1n, 3)).toEqual(["reserved bits 0x80 are set"]);
    expect(broken(0x921n, 4)).toEqual(["reserved bits 0x100 are set"]);
  });

  it("EPT entries have a memory type and rights that exist", () => {
    const reserved = eptReserved(EPT, { executeOnly: false, maxPageLevel: 2 });
    const broken = (word: bigint) => brokenInvariants(word, { masks: EPT, level: 1, reserved });
    expect(broken(0x975n)).toEqual([]);
    expect(broken(0x974n)).toEqual(["memory type and rights 0x34 are a misconfiguration"]);
    expect(broken(0x955n)).toEqual(["memory type and rights 0x15 are a misconfiguration"]);
    expect(broken(0x0600_0000_0000_0972n)).toEqual(["memory type and rights 0x32 are a misconfiguration"]);
    expect(brokenInvariants(0xbf5n, { masks: EPT, level: 3, reserved })).toEqual(["reserved bits 0x80 are set"]);
  });

  it("encryption bits are reserved but for the value that the VM uses", () => {
    const encryption = { mask: 3n << 46n, value: 1n << 47n };
    const masks = legacyMasks({ physBits: 48, addressBits: 43, encryption });
    const shadow = legacyReserved(masks, { rootLevel: 4, nx: true, page1g: true, encryptedOnly: true });
    expect(brokenInvariants(0x821n | (1n << 47n), { masks, level: 1, reserved: shadow })).toEqual([]);
    expect(brokenInvariants(0x821n | (1n << 46n), { masks, level: 1, reserved: shadow })).toHaveLength(1);
  });

  it("an MMIO entry carries the L1TF guard", () => {
    expect(check(0xf880000036n, EPT)).toEqual([]);
    expect(check(0x80000036n, EPT)).toEqual(["an MMIO entry lacks the L1TF guard bits"]);
  });

  it("the default masks fit their format", () => {
    expect(defaultMasks("ept").x).toBe(4n);
    expect(defaultMasks("npt").nx).toBe(1n << 63n);
  });
});
