/** The core's SPTE constructors against the reference's, over random arguments and masks. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SPTE_AD } from "../../src/abi/spte.js";
import { LinearMemory } from "../../src/core/linear/linear-memory.js";
import { VmRecord } from "../../src/core/records/mmu.js";
import {
  makeChangedPfn,
  makeLeaf,
  makeMmio,
  makeNonLeaf,
  makePdpte,
  makeSplitChild,
  markForAccessTracking,
  restoreAccessTracked,
} from "../../src/reference/spte.js";
import { eptMasks, legacyMasks, type SpteMasks } from "../../src/spte/index.js";
import { compileDebug } from "../asc.js";

interface Constructors {
  leafSpte(vm: number, role: number, access: number, page: bigint, prefetch: number, hostWritable: number): bigint;
  tableSpte(vm: number, table: bigint, adDisabled: number): bigint;
  pdpteSpte(vm: number, table: bigint): bigint;
  mmioSpte(vm: number, gfn: bigint, access: number, generation: bigint): bigint;
  mmioGfn(vm: number, spte: bigint): bigint;
  mmioAccess(vm: number, spte: bigint): number;
  mmioGeneration(spte: bigint): bigint;
  trackAccess(vm: number, spte: bigint): bigint;
  restoreAccess(vm: number, spte: bigint): bigint;
  changedPageSpte(vm: number, spte: bigint, page: bigint): bigint;
  splitSpte(vm: number, huge: bigint, role: number, index: number): bigint;
}

const memory = new WebAssembly.Memory({ initial: 1 });
const module = new WebAssembly.Module(compileDebug("assembly/testing.ts"));
const core = new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Constructors;
const linear = new LinearMemory(memory);
const record = new VmRecord(linear, linear.allocate(VmRecord.SIZE));
const vm = record.at;

const FIELDS = [
  "hostWritable",
  "mmuWritable",
  "nx",
  "x",
  "user",
  "accessed",
  "dirty",
  "mmioValue",
  "mmioAccess",
  "present",
  "memtype",
  "meValue",
  "accTrack",
  "nonpresentOrRsvd",
  "lowerGfn",
] as const;

const MEMTYPE = 6n << 3n;
const AD_DISABLED = 1 << 16;
const GUEST_MODE = 1 << 17;

/** Writes the masks into the VM record and returns them. */
function use(masks: SpteMasks, options: { nxHugePages?: boolean; dirtyLog?: boolean } = {}): SpteMasks {
  for (const name of FIELDS) record[name] = masks[name];
  record.memtypeValue = masks.memtype === 0n ? 0n : MEMTYPE;
  record.nxHuge = options.nxHugePages ? 1 : 0;
  record.cpuDirtyLog = options.dirtyLog ? 1 : 0;
  return masks;
}

const anyMasks: fc.Arbitrary<SpteMasks> = fc
  .record({
    ept: fc.boolean(),
    physBits: fc.integer({ min: 36, max: 46 }),
    l1tf: fc.boolean(),
    encrypted: fc.boolean(),
    accessedDirty: fc.boolean(),
    executeOnly: fc.boolean(),
  })
  .map(({ ept, physBits, l1tf, encrypted, accessedDirty, executeOnly }) => {
    const options = {
      physBits,
      ...(l1tf ? { l1tfCacheBits: physBits } : {}),
      ...(encrypted ? { encryption: { mask: 1n << 47n, value: 1n << 47n } } : {}),
    };
    return ept ? eptMasks({ ...options, accessedDirty, executeOnly }) : legacyMasks(options);
  });
/** Below every physBits, shifted to the size of a 1 GiB page as well. */
const anyFrame = fc.bigInt({ min: 0n, max: (1n << 6n) - 1n });
/** Guest frames of MMIO may use every bit of 36-bit hosts. */
const anyGfn = fc.bigInt({ min: 0n, max: (1n << 24n) - 1n });
const anyAccess = fc.integer({ min: 0, max: 7 });

function check<T extends unknown[]>(arbitraries: { [K in keyof T]: fc.Arbitrary<T[K]> }, test: (...values: T) => void) {
  fc.assert(fc.property(...(arbitraries as [fc.Arbitrary<T[0]>]), test as never), { seed: 9, numRuns: 2000 });
}

describe("the core constructs what the reference does", () => {
  const leafOptions = fc.record({
    level: fc.integer({ min: 1, max: 3 }),
    access: anyAccess,
    hostWritable: fc.boolean(),
    prefetch: fc.boolean(),
    nxHugePages: fc.boolean(),
    nestedLog: fc.boolean(),
    adDisabled: fc.boolean(),
  });

  it("leaves, before anything makes them writable", () => {
    check([anyMasks, anyFrame, leafOptions], (masks, frame, options) => {
      const adDisabled = options.adDisabled || masks.accessed === 0n;
      use(masks, { nxHugePages: options.nxHugePages, dirtyLog: options.nestedLog });
      const role = options.level | (adDisabled ? AD_DISABLED : 0) | (options.nestedLog ? GUEST_MODE : 0);
      const pfn = frame << BigInt(9 * (options.level - 1));
      const flags = [options.prefetch ? 1 : 0, options.hostWritable ? 1 : 0] as const;
      const made = core.leafSpte(vm, role, options.access, pfn << 12n, ...flags);
      const expected = makeLeaf({
        ...options,
        masks,
        pfn,
        access: options.access & ~2,
        adType: adDisabled ? SPTE_AD.Disabled : options.nestedLog ? SPTE_AD.WriteProtect : SPTE_AD.Enabled,
        writeProtect: false,
        mmioPage: false,
        memtype: MEMTYPE,
        old: 0n,
      });
      const stored = options.prefetch ? core.trackAccess(vm, made) : made;
      expect(BigInt.asUintN(64, stored)).toBe(expected.spte);
    });
  });

  it("entries that lead to tables, and PDPTEs", () => {
    check([anyMasks, anyFrame, fc.boolean()], (masks, frame, disabled) => {
      use(masks);
      const adDisabled = disabled || masks.accessed === 0n;
      const table = frame << 12n;
      expect(BigInt.asUintN(64, core.tableSpte(vm, table, adDisabled ? 1 : 0))).toBe(
        makeNonLeaf(table, adDisabled, masks),
      );
      expect(BigInt.asUintN(64, core.pdpteSpte(vm, table))).toBe(makePdpte(table, masks));
    });
  });

  it("MMIO entries, which say where, with what rights and of which generation they are", () => {
    const generation = fc.integer({ min: 0, max: 0x7ffff });
    check([anyMasks, anyGfn, anyAccess, generation], (masks, gfn, access, memslots) => {
      use(masks);
      const spte = BigInt.asUintN(64, core.mmioSpte(vm, gfn, access, BigInt(memslots)));
      expect(spte).toBe(makeMmio(gfn, access, memslots, masks));
      expect(core.mmioGfn(vm, spte)).toBe(gfn);
      expect(BigInt(core.mmioAccess(vm, spte))).toBe(BigInt(access) & masks.mmioAccess);
      expect(core.mmioGeneration(spte)).toBe(BigInt(memslots));
    });
  });

  const anyLeaf = fc.tuple(anyMasks, anyFrame, leafOptions).map(([masks, pfn, options]) => {
    const adDisabled = options.adDisabled || masks.accessed === 0n;
    const { spte } = makeLeaf({
      ...options,
      masks,
      pfn: pfn << BigInt(9 * (options.level - 1)),
      adType: adDisabled ? SPTE_AD.Disabled : SPTE_AD.Enabled,
      writeProtect: false,
      mmioPage: false,
      memtype: MEMTYPE,
      old: 0n,
    });
    return { masks, spte, level: options.level };
  });

  it("access-tracked entries and those given back", () => {
    check([anyLeaf], ({ masks, spte }) => {
      use(masks);
      const tracked = BigInt.asUintN(64, core.trackAccess(vm, spte));
      expect(tracked).toBe(markForAccessTracking(spte, masks));
      expect(BigInt.asUintN(64, core.restoreAccess(vm, tracked))).toBe(restoreAccessTracked(tracked, masks));
    });
  });

  it("entries of a page that the host moved", () => {
    check([anyLeaf, anyFrame], ({ masks, spte }, pfn) => {
      use(masks);
      expect(BigInt.asUintN(64, core.changedPageSpte(vm, spte, pfn << 12n))).toBe(makeChangedPfn(spte, pfn, masks));
    });
  });

  it("the children of a split huge page", () => {
    const child = fc.record({ access: anyAccess, nxHugePages: fc.boolean(), index: fc.integer({ min: 0, max: 511 }) });
    check(
      [anyLeaf.filter((leaf) => leaf.level > 1), child],
      ({ masks, spte, level }, { access, nxHugePages, index }) => {
        use(masks, { nxHugePages });
        const role = (level - 1) | (access << 8);
        const made = BigInt.asUintN(64, core.splitSpte(vm, spte, role, index));
        expect(made).toBe(makeSplitChild(spte, index, { level: level - 1, access, nxHugePages }, masks));
      },
    );
  });
});
