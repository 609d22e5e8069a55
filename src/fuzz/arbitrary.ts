/**
 * Random but structured scenarios. Tables that lead somewhere are built first, and then spoiled with at most three odd
 * bits: entries that are random all over would nearly always fault in the first one.
 */
import fc from "fast-check";
import {
  Access,
  bitOf,
  CR0,
  CR3,
  CR4,
  EFER,
  EPT,
  EPT_IGNORED,
  EPTP,
  IGNORED,
  maskOf,
  PTE,
  placed,
} from "../abi/index.js";
import { FIXED_MTRRS, MTRR_DEF_TYPE, MTRR_PHYS_MASK } from "../abi/memory-types.js";
import type { AddressSpaceConfig, CpuFeatures, RuleSet } from "../api.js";
import type { AccessStep, EntryWrite, Scenario, SecondStage, SlotRange } from "./scenario.js";

type LegacyMode = "none" | "32bit" | "pae" | "4level" | "5level";
type Shape = "guest" | "ept" | "npt" | "guest-on-ept" | "guest-on-npt";

const PAGE = 4096n;
/** Guest tables and the pages they map lie in these frames of guest-physical memory, behind a second stage or not. */
const LOW_FRAMES = 16n;
/** Second-stage tables follow, from this frame on. */
const STAGE_FRAMES = 32n;
const SLOT_FRAMES = 64n;

const P = bitOf(PTE, "P");
const RW = bitOf(PTE, "RW");
const US = bitOf(PTE, "US");
const A = bitOf(PTE, "A");
const D = bitOf(PTE, "D");
const PS = bitOf(PTE, "PS");

const PDPTE_INDEX_BITS = 2n;
/** In a PAE PDPTE two of the ignored bits are toggled. */
const PDPTE_IGNORED = maskOf({ ...IGNORED, width: 2 });
const CR3_CACHING = Number(bitOf(CR3, "PWT") | bitOf(CR3, "PCD"));
const WRITE_BACK = placed(EPTP, "MEMTYPE", 6n);
const FIXED_ENABLED = bitOf(MTRR_DEF_TYPE, "FE");
const MTRRS_ENABLED = bitOf(MTRR_DEF_TYPE, "E");
const RANGE_VALID = bitOf(MTRR_PHYS_MASK, "V");
/** Frames below 64 GiB, in an entry. */
const LOW_ADDRESSES = 2n ** 36n - PAGE;

const LEVELS: Record<LegacyMode, number> = { none: 0, "32bit": 2, pae: 3, "4level": 4, "5level": 5 };

/** Which bits of which entry are toggled after the tables are built. */
interface Oddity {
  readonly table: "guest" | "second";
  readonly level: number;
  readonly bit: number;
}

const oddity: fc.Arbitrary<Oddity> = fc.record({
  table: fc.constantFrom("guest" as const, "second" as const),
  level: fc.integer({ min: 1, max: 5 }),
  bit: fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: 0, max: 12 }) },
    { weight: 2, arbitrary: fc.integer({ min: 0, max: 63 }) },
    { weight: 1, arbitrary: fc.constantFrom(21, 32, 36, 40, 51, 52, 59, 62, 63) },
  ),
});

/** The other value in one of eight. */
function mostly(value: boolean): fc.Arbitrary<boolean> {
  return fc.integer({ min: 0, max: 7 }).map((one) => (one === 0) !== value);
}

const mtrrType = fc.constantFrom(0n, 1n, 4n, 5n, 6n, 6n);
/** A register of eight types. */
const types = fc.array(mtrrType, { minLength: 8, maxLength: 8 }).map(packed);
const mtrrs = fc.record({
  defType: fc
    .tuple(mtrrType, fc.boolean(), mostly(true))
    .map(([type, fixed, enabled]) => type | (fixed ? FIXED_ENABLED : 0n) | (enabled ? MTRRS_ENABLED : 0n)),
  fixed: fc.array(types, { minLength: FIXED_MTRRS.length, maxLength: FIXED_MTRRS.length }),
  variable: fc.array(
    fc.record({
      base: fc.tuple(mtrrType, fc.bigInt({ min: 0n, max: 63n })).map(([type, frame]) => type | (frame * PAGE)),
      mask: fc
        .tuple(fc.boolean(), fc.integer({ min: 12, max: 20 }))
        .map(([valid, bits]) => (valid ? RANGE_VALID : 0n) | (((1n << 52n) - 1n) & -(1n << BigInt(bits)))),
    }),
    { maxLength: 4 },
  ),
});

/** Eight bytes, the first one lowest. */
function packed(bytes: readonly (bigint | number)[]): bigint {
  return bytes.reduceRight<bigint>((word, byte) => (word << 8n) | BigInt(byte), 0n);
}

const registers = fc.record({
  wp: fc.boolean(),
  nxe: fc.boolean(),
  smep: fc.boolean(),
  smap: fc.boolean(),
  pse: fc.boolean(),
  pke: fc.boolean(),
  pks: fc.boolean(),
  cet: mostly(false),
  lass: fc.integer({ min: 0, max: 5 }).map((value) => value === 0),
  uai: fc.integer({ min: 0, max: 3 }).map((value) => value === 0),
  lamSupervisor: fc.boolean(),
  lamUser: fc.constantFrom(
    0n,
    0n,
    bitOf(CR3, "LAM_U48"),
    bitOf(CR3, "LAM_U57"),
    bitOf(CR3, "LAM_U48") | bitOf(CR3, "LAM_U57"),
  ),
  pkru: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffffffff })),
  pkrs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffffffff })),
  maxPhysAddr: fc.oneof(fc.constantFrom(32, 36, 40, 46, 52), fc.integer({ min: 32, max: 52 })),
  rules: fc.constantFrom<RuleSet>("architecture", "architecture", "kvm-6.1"),
  cpu: fc.record({
    page1g: fc.boolean(),
    pse36: fc.boolean(),
    amdReservedBit8: fc.boolean(),
    amdMemoryTypes: fc.boolean(),
    lam: mostly(true),
    la57: mostly(true),
    cet: mostly(true),
    lass: mostly(true),
    uai: mostly(true),
    pkrsOnUserAccess: fc.boolean(),
  }),
  pcide: fc.boolean(),
  entered: mostly(false),
  accessedOnFault: mostly(false),
  live: fc.boolean(),
  /** Of NPT. */
  shadowStackCheck: fc.boolean(),
  guestModeExecuteTrap: fc.boolean(),
  encryptionBit: fc.option(fc.integer({ min: 32, max: 51 }), { freq: 6, nil: undefined }),
  /** What the bit is called, if it has a name. */
  encryption: fc.constantFrom("mask", "mask", "sev", "sev-vtom", "tdx"),
  cacheDisable: mostly(false),
  pat: fc.option(fc.array(fc.constantFrom(0, 1, 4, 5, 6, 7), { minLength: 8, maxLength: 8 }), { nil: undefined }),
  mtrrs: fc.option(mtrrs, { nil: undefined }),
  lenient: fc.integer({ min: 0, max: 15 }).map((value) => value === 0),
  rootLow: fc.integer({ min: 0, max: 0xfff }),
  /** A bit above 31 of CR3: reserved, stripped or not looked at. */
  rootHigh: fc.oneof(
    { weight: 7, arbitrary: fc.constant(0n) },
    { weight: 1, arbitrary: fc.integer({ min: 32, max: 63 }).map((bit) => 1n << BigInt(bit)) },
  ),
});
type Registers = typeof registers extends fc.Arbitrary<infer T> ? T : never;

const eptOptions = fc.record({
  /** A bit of the EPTP that may be reserved. */
  oddBit: fc.oneof(
    { weight: 15, arbitrary: fc.constant(0n) },
    { weight: 1, arbitrary: fc.integer({ min: 7, max: 63 }).map((bit) => 1n << BigInt(bit)) },
  ),
  accessedDirty: fc.boolean(),
  executeOnly: fc.boolean(),
  modeBasedExecute: fc.boolean(),
  advancedExitInformation: fc.boolean(),
  violationExceptions: fc.boolean(),
  shadowStacks: fc.boolean(),
  shadowStackControl: mostly(true),
  page1g: fc.boolean(),
  page2m: fc.boolean(),
  fiveLevel: fc.boolean(),
  maxPhysAddr: fc.integer({ min: 32, max: 52 }),
  rules: fc.constantFrom<RuleSet>("architecture", "architecture", "kvm-6.1"),
});
type EptOptions = typeof eptOptions extends fc.Arbitrary<infer T> ? T : never;

/** Flags of one entry before oddities: mostly everything allowed, so that single restrictions matter. */
const entryFlags = fc.record({
  /** EPT entries: mostly. One without reading and with writing is a misconfiguration. */
  read: fc.integer({ min: 0, max: 15 }).map((value) => value > 0),
  write: fc.integer({ min: 0, max: 7 }).map((value) => value > 0),
  user: fc.integer({ min: 0, max: 3 }).map((value) => value > 0),
  execute: fc.integer({ min: 0, max: 7 }).map((value) => value > 0),
  accessed: fc.boolean(),
  dirty: fc.boolean(),
  ignored: fc.bigInt({ min: 0n, max: 0xffn }),
  key: fc.integer({ min: 0, max: 15 }),
  memoryType: fc.constantFrom(0n, 1n, 4n, 5n, 6n, 6n, 6n, 7n),
  high: fc.integer({ min: 0, max: 3 }).map((value) => value === 0),
  /** A leaf as a shadow-stack page has it, of the guest's, of NPT or of EPT. */
  stack: fc.integer({ min: 0, max: 5 }).map((value) => value === 0),
});
type EntryFlags = typeof entryFlags extends fc.Arbitrary<infer T> ? T : never;

function allowAll(flags: EntryFlags): EntryFlags {
  return { ...flags, read: true, write: true, user: true, execute: true, memoryType: 6n, stack: false };
}

function allowStacks(flags: EntryFlags): EntryFlags {
  return { ...allowAll(flags), stack: true };
}

const accessFlags = fc.record({
  kind: fc.constantFrom(Access.Read, Access.Write, Access.Fetch),
  /** Unless it is a fetch. */
  stack: fc.integer({ min: 0, max: 3 }).map((value) => value === 0),
  user: fc.boolean(),
  ac: fc.boolean(),
  otherSegment: fc.integer({ min: 0, max: 3 }).map((value) => value === 0),
  implicit: fc.integer({ min: 0, max: 4 }).map((value) => value === 0),
  probe: fc.integer({ min: 0, max: 2 }).map((value) => value === 0),
  /** Changes to the base address: another offset, another entry, a bit of the upper half. */
  offset: fc.bigInt({ min: 0n, max: 0xfffn }),
  flip: fc.oneof(
    { weight: 6, arbitrary: fc.constant(undefined) },
    { weight: 2, arbitrary: fc.integer({ min: 12, max: 31 }) },
    { weight: 1, arbitrary: fc.integer({ min: 32, max: 63 }) },
    { weight: 1, arbitrary: fc.integer({ min: 57, max: 63 }) },
  ),
});
type AccessFlags = typeof accessFlags extends fc.Arbitrary<infer T> ? T : never;

const parts = fc.record({
  shape: fc.constantFrom<Shape>("guest", "guest", "guest", "ept", "npt", "guest-on-ept", "guest-on-npt"),
  mode: fc.constantFrom<LegacyMode>("none", "32bit", "pae", "4level", "4level", "5level"),
  nptMode: fc.constantFrom<LegacyMode>("none", "32bit", "pae", "4level", "4level", "5level"),
  registers,
  nptRegisters: registers,
  ept: eptOptions,
  address: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  guestLeaf: fc.constantFrom(1, 1, 1, 2, 3),
  secondLeaf: fc.constantFrom(1, 1, 1, 2, 3),
  guestFlags: fc.array(entryFlags, { minLength: 5, maxLength: 5 }),
  // Mostly the second stage forbids nothing, so that two-stage walks get to their end, or nothing to shadow stacks.
  secondFlags: fc.oneof(
    { weight: 4, arbitrary: fc.array(entryFlags.map(allowAll), { minLength: 5, maxLength: 5 }) },
    { weight: 1, arbitrary: fc.array(entryFlags.map(allowStacks), { minLength: 5, maxLength: 5 }) },
    { weight: 2, arbitrary: fc.array(entryFlags, { minLength: 5, maxLength: 5 }) },
  ),
  oddities: fc.oneof(fc.constant<Oddity[]>([]), fc.array(oddity, { maxLength: 3 })),
  readOnly: fc.integer({ min: 0, max: 9 }).map((value) => value === 0),
  highBase: fc.boolean(),
  selfMap: fc.integer({ min: 0, max: 19 }).map((value) => value === 0),
  /** A frame of the guest's tables that the second stage puts where one of its own tables is. */
  shared: fc.option(
    fc.oneof(
      fc.record({ guest: fc.bigInt({ min: 1n, max: 9n }), stage: fc.bigInt({ min: 0n, max: 6n }) }),
      // The last tables of both: a leaf of the guest's is the leaf of the page that it maps.
      fc.constant({ guest: 4n, stage: 3n }),
    ),
    { freq: 3 },
  ),
  /** Every index of the address is one of the first sixteen, which the second stage's tables use; or of those it leaves. */
  lowIndices: fc.constantFrom("no", "no", "sixteen", "left"),
  accesses: fc.array(accessFlags, { minLength: 1, maxLength: 5 }),
});
type Parts = typeof parts extends fc.Arbitrary<infer T> ? T : never;

/** Scenarios over every mode, stage and rule set. */
export const scenarios: fc.Arbitrary<Scenario> = parts.map(build);

function build(p: Parts): Scenario {
  const hasGuest = p.shape.startsWith("guest");
  const hasSecond = p.shape !== "guest";
  const isEpt = p.shape.endsWith("ept");
  const memory = new Map<bigint, EntryWrite>();
  const highBase = p.highBase && !hasSecond ? (1n << BigInt(p.registers.maxPhysAddr)) - SLOT_FRAMES * PAGE : 0n;

  const address = canonical(p.mode, withIndices(p, p.address));
  const guest = hasGuest ? guestConfig(p, hasSecond) : undefined;
  if (hasGuest) {
    const toPhysical = (gpa: bigint) => (hasSecond ? throughStage(p, gpa) : gpa);
    putPath(memory, p.mode, address, p.guestLeaf, p.guestFlags, oddBits(p, "guest"), {
      root: PAGE + (p.mode === "pae" ? BigInt(p.registers.rootLow & 0xfe0) : 0n),
      firstTable: 2n,
      highBase,
      selfMap: p.selfMap,
      pse: p.registers.pse,
      toPhysical,
      stackLeaf: (flags) => ({ ...flags, write: false, dirty: true }),
    });
  }
  let second: SecondStage | undefined;
  if (hasSecond) {
    second = isEpt ? putEpt(memory, p) : putNpt(memory, p);
  }
  return {
    slots: slotsOf(p, highBase),
    entries: [...memory.values()],
    guest,
    second,
    accesses: p.accesses.map((one) =>
      accessOf(one, hasGuest ? address : directAddress(p), hasGuest && isNarrow(p.mode)),
    ),
  };
}

function slotsOf(p: Parts, highBase: bigint): SlotRange[] {
  const size = Number(SLOT_FRAMES * PAGE);
  const low = { gpa: 0n, size, readOnly: p.readOnly };
  return highBase > SLOT_FRAMES * PAGE ? [low, { gpa: highBase, size, readOnly: false }] : [low];
}

/**
 * Where the second stage puts guest frame n: a permutation of the low frames, but for one that both stages may share. It
 * leaves frames 3, 7, 11 and 15 where they are, so that an entry in the shared frame can serve both stages in one walk.
 */
function throughStage(p: Parts, gpa: bigint): bigint {
  const frame = gpa / PAGE;
  if (p.shared !== null && frame === p.shared.guest) return (STAGE_FRAMES + p.shared.stage) * PAGE + (gpa % PAGE);
  return frame < LOW_FRAMES ? ((frame * 5n + 4n) % LOW_FRAMES) * PAGE + (gpa % PAGE) : gpa;
}

function oddBits(p: Parts, table: "guest" | "second"): Oddity[] {
  return p.oddities.filter((one) => one.table === table);
}

function canonical(mode: LegacyMode, address: bigint): bigint {
  if (mode === "4level") return BigInt.asUintN(64, BigInt.asIntN(48, address));
  if (mode === "5level") return BigInt.asUintN(64, BigInt.asIntN(57, address));
  return address & 0xffffffffn;
}

function withIndices(p: Parts, address: bigint): bigint {
  if (p.lowIndices === "no") return address;
  const [levels, bits] = p.mode === "32bit" ? [2, 10] : [5, 9];
  const inEach = (index: bigint) =>
    Array.from({ length: levels }, (_, level) => index << BigInt(12 + bits * level)).reduce((all, one) => all | one);
  const low = address & (inEach(15n) | 0xfffn);
  return p.lowIndices === "left" ? low | inEach(3n) : low;
}

interface Placement {
  readonly root: bigint;
  /** First frame for the tables below the root. */
  readonly firstTable: bigint;
  /** Where entries flagged `high` have their tables, 0n for nowhere. */
  readonly highBase: bigint;
  readonly selfMap: boolean;
  readonly pse: boolean;
  readonly toPhysical: (gpa: bigint) => bigint;
  /** What a leaf of a shadow stack has. */
  readonly stackLeaf: (flags: EntryFlags) => EntryFlags;
}

/** Writes the entries that translate `address`, one a level, with the leaf at level `leaf` where the mode has such pages. */
function putPath(
  memory: Map<bigint, EntryWrite>,
  mode: LegacyMode,
  address: bigint,
  leaf: number,
  flags: readonly EntryFlags[],
  odd: readonly Oddity[],
  at: Placement,
): void {
  const bytes = mode === "32bit" ? 4 : 8;
  const bits = mode === "32bit" ? 10n : 9n;
  const leafLevel = mode === "pae" || mode === "32bit" ? Math.min(leaf, 2) : leaf;
  let table = at.root;
  for (let level = LEVELS[mode]; level > 0; level--) {
    const flag = flags[level - 1]!;
    const pdpte = mode === "pae" && level === 3;
    const shift = 12n + bits * BigInt(level - 1);
    const index = (address >> shift) & ((1n << (pdpte ? PDPTE_INDEX_BITS : bits)) - 1n);
    const isLeaf = level === leafLevel && !pdpte;
    const base = flag.high && mode !== "32bit" ? at.highBase : 0n;
    const frame =
      at.selfMap && level === LEVELS[mode] ? at.root & ~0xfffn : base + (at.firstTable + BigInt(level)) * PAGE;
    let value = pdpte
      ? P | ((flag.ignored << 8n) & PDPTE_IGNORED)
      : legacyFlags(mode, isLeaf && flag.stack ? at.stackLeaf(flag) : flag) | (isLeaf && level > 1 ? PS : 0n);
    value |= isLeaf && level > 1 ? leafFrame(address, shift) : frame;
    for (const one of odd) if (one.level === level) value ^= 1n << BigInt(one.bit % (bytes * 8));
    const physical = at.toPhysical(table + index * BigInt(bytes));
    memory.set(physical, { address: physical, value: BigInt.asUintN(bytes * 8, value), bytes });
    if (isLeaf) return;
    table = frame;
  }
}

/** A large page's address: the low gigabyte, so that what it maps can lie in the slots. */
function leafFrame(address: bigint, shift: bigint): bigint {
  return shift > 21n ? 0n : (address % 2n) << shift;
}

function legacyFlags(mode: LegacyMode, flag: EntryFlags): bigint {
  let value = P | (flag.write ? RW : 0n) | (flag.user ? US : 0n) | (flag.accessed ? A : 0n) | (flag.dirty ? D : 0n);
  value |= (flag.ignored << BigInt(IGNORED.low)) & maskOf(IGNORED);
  if (mode === "4level" || mode === "5level") value |= placed(PTE, "PKEY", BigInt(flag.key));
  if (mode !== "32bit" && !flag.execute) value |= bitOf(PTE, "XD");
  return value;
}

function guestConfig(p: Parts, hasSecond: boolean): Omit<AddressSpaceConfig, "secondStage"> {
  const r = p.registers;
  const long = p.mode === "4level" || p.mode === "5level";
  return {
    ...modeRegisters(p.mode, r),
    cr3:
      PAGE |
      BigInt(p.mode === "pae" ? r.rootLow & 0xfff : r.rootLow & CR3_CACHING) |
      (long ? r.lamUser : 0n) |
      r.rootHigh,
    maxPhysAddr: r.maxPhysAddr,
    rules: r.rules,
    cpu: r.cpu as CpuFeatures,
    pkru: r.pkru,
    pkrs: r.pkrs,
    loadedBy: r.entered ? "vm-entry" : "mov",
    accessedOnFault: r.accessedOnFault,
    pdptes: r.live ? "live" : "latched",
    ...encryptionOf(r, hasSecond),
    ...typeRegisters(r),
    lenient: r.lenient && !hasSecond,
  };
}

function typeRegisters(r: Registers): Pick<AddressSpaceConfig, "pat" | "mtrrs"> {
  return {
    ...(r.pat === undefined ? {} : { pat: packed(r.pat) }),
    ...(r.mtrrs === undefined ? {} : { mtrrs: r.mtrrs }),
  };
}

/** The encryption bit as a mask or by its name, where it can be one of that name. */
function encryptionOf(r: Registers, hasSecond: boolean): Partial<AddressSpaceConfig> {
  const cBit = r.encryptionBit;
  if (cBit === undefined) return {};
  if (r.encryption === "sev") return { memoryEncryption: { kind: "sev", cBit } };
  if (r.encryption === "sev-vtom" && cBit >= r.maxPhysAddr) {
    return { memoryEncryption: { kind: "sev-vtom", cBit, virtualTom: BigInt(cBit % 2) << 21n } };
  }
  if (r.encryption === "tdx" && !hasSecond) return { memoryEncryption: { kind: "tdx", sharedBit: 47 } };
  return { encryptionMask: 1n << BigInt(cBit) };
}

function modeRegisters(mode: LegacyMode, r: Registers): { cr0: bigint; cr4: bigint; efer: bigint } {
  const paging = mode !== "none";
  const long = mode === "4level" || mode === "5level";
  const pae = long || mode === "pae";
  const on = (condition: boolean, bit: bigint) => (condition ? bit : 0n);
  return {
    // CET needs WP: a scenario in which it has none is refused.
    cr0:
      bitOf(CR0, "PE") |
      on(r.cacheDisable, bitOf(CR0, "CD")) |
      on(paging, bitOf(CR0, "PG")) |
      on(r.wp || (r.cet && r.pse), bitOf(CR0, "WP")),
    cr4:
      on(r.pse, bitOf(CR4, "PSE")) |
      on(pae, bitOf(CR4, "PAE")) |
      on(mode === "5level", bitOf(CR4, "LA57")) |
      on(r.smep, bitOf(CR4, "SMEP")) |
      on(r.smap, bitOf(CR4, "SMAP")) |
      on(r.pke, bitOf(CR4, "PKE")) |
      on(r.pks, bitOf(CR4, "PKS")) |
      on(r.cet, bitOf(CR4, "CET")) |
      on(long && r.pcide, bitOf(CR4, "PCIDE")) |
      on(r.lass, bitOf(CR4, "LASS")) |
      on(r.lamSupervisor, bitOf(CR4, "LAM_SUP")),
    efer:
      on(r.nxe, bitOf(EFER, "NXE")) |
      on(r.uai, bitOf(EFER, "UAIE")) |
      on(long, bitOf(EFER, "LMA") | bitOf(EFER, "LME")),
  };
}

/** The guest-physical address that a second-stage-only scenario asks for. */
function directAddress(p: Parts): bigint {
  return p.address & (LOW_FRAMES * PAGE - 1n);
}

/** Maps the low guest frames by NPT: one path of tables, the last one filled for every low frame. */
function putNpt(memory: Map<bigint, EntryWrite>, p: Parts): SecondStage {
  const r = p.nptRegisters;
  const root = STAGE_FRAMES * PAGE;
  const mode = p.nptMode;
  const place: Placement = {
    root,
    firstTable: STAGE_FRAMES + 1n,
    highBase: 0n,
    selfMap: false,
    pse: r.pse,
    toPhysical: (address) => address,
    stackLeaf: (flags) => ({ ...flags, user: false, execute: false }),
  };
  for (let frame = 0n; frame < LOW_FRAMES; frame++) {
    putPath(memory, mode, frame * PAGE, p.secondLeaf, p.secondFlags, [], place);
    fixLeaf(memory, p, mode === "32bit" ? 4 : 8, (STAGE_FRAMES + 3n) * PAGE, frame);
  }
  spoil(memory, mode === "32bit" ? 4 : 8, p, mode === "none" ? 0 : LEVELS[mode]);
  return {
    kind: "npt",
    config: {
      ...modeRegisters(mode, r),
      ncr3: root | r.rootHigh,
      maxPhysAddr: r.maxPhysAddr,
      rules: r.rules,
      cpu: r.cpu as CpuFeatures,
      encryptionMask: r.encryptionBit === undefined ? 0n : 1n << BigInt(r.encryptionBit),
      ...typeRegisters(r),
      shadowStackCheck: r.shadowStackCheck,
      guestModeExecuteTrap: r.guestModeExecuteTrap,
    },
  };
}

/** Points the level-1 entry of a low frame to where the second stage puts it. */
function fixLeaf(memory: Map<bigint, EntryWrite>, p: Parts, bytes: 4 | 8, table: bigint, frame: bigint): void {
  const address = table + frame * BigInt(bytes);
  const entry = memory.get(address);
  // In a shared frame it may be the guest's.
  if (entry === undefined || entry.bytes !== bytes) return;
  const value = (entry.value & ~LOW_ADDRESSES) | throughStage(p, frame * PAGE);
  memory.set(address, { address, value, bytes });
}

/** Toggles the odd bits of second-stage entries: at level 1 in the entry of one low frame, above it in the only entry. */
function spoil(memory: Map<bigint, EntryWrite>, bytes: 4 | 8, p: Parts, levels: number): void {
  for (const one of oddBits(p, "second")) {
    if (one.level > levels) continue;
    const table = one.level === levels ? STAGE_FRAMES : STAGE_FRAMES + 1n + BigInt(one.level + 1);
    const index = one.level === 1 ? p.address % 8n : 0n;
    const address = table * PAGE + index * BigInt(bytes);
    const entry = memory.get(address);
    if (entry === undefined || entry.bytes !== bytes) continue;
    memory.set(address, {
      ...entry,
      value: BigInt.asUintN(bytes * 8, entry.value ^ (1n << BigInt(one.bit % (bytes * 8)))),
    });
  }
}

function putEpt(memory: Map<bigint, EntryWrite>, p: Parts): SecondStage {
  const options: EptOptions = p.ept;
  const levels = options.fiveLevel ? 5 : 4;
  const root = STAGE_FRAMES * PAGE;
  let table = root;
  for (let level = levels; level > 0; level--) {
    const flag = p.secondFlags[level - 1]!;
    const next = (STAGE_FRAMES + 1n + BigInt(level)) * PAGE;
    const leaf = level === 1 || level === Math.min(p.secondLeaf, 3);
    const frames = level === 1 ? LOW_FRAMES : 1n;
    for (let frame = 0n; frame < frames; frame++) {
      const target = level === 1 ? throughStage(p, frame * PAGE) : leaf ? 0n : next;
      const value = eptFlags(flag, leaf) | (leaf && level > 1 ? bitOf(EPT, "PS") : 0n) | target;
      const address = table + frame * 8n;
      memory.set(address, { address, value, bytes: 8 });
    }
    if (leaf) break;
    table = next;
  }
  spoil(memory, 8, p, levels);
  return {
    kind: "ept",
    config: {
      eptp:
        root |
        WRITE_BACK |
        placed(EPTP, "WALK_LENGTH", BigInt(levels - 1)) |
        (options.accessedDirty ? bitOf(EPTP, "AD") : 0n) |
        (options.shadowStacks && options.rules === "architecture" ? bitOf(EPTP, "SSS") : 0n) |
        options.oddBit,
      maxPhysAddr: options.maxPhysAddr,
      executeOnly: options.executeOnly,
      modeBasedExecute: options.modeBasedExecute,
      advancedExitInformation: options.advancedExitInformation,
      violationExceptions: options.violationExceptions,
      shadowStackControl: options.shadowStackControl,
      page1g: options.page1g,
      page2m: options.page2m,
      rules: options.rules,
    },
  };
}

function eptFlags(flag: EntryFlags, leaf: boolean): bigint {
  const writes = flag.write && (flag.read || flag.dirty);
  let value =
    (flag.read ? bitOf(EPT, "R") : 0n) | (writes ? bitOf(EPT, "W") : 0n) | (flag.execute ? bitOf(EPT, "X") : 0n);
  if (flag.user) value |= bitOf(EPT, "XU");
  if (flag.accessed) value |= bitOf(EPT, "A");
  if (flag.dirty) value |= bitOf(EPT, "D");
  if (leaf) value |= placed(EPT, "MEMTYPE", flag.memoryType);
  if (flag.stack) {
    // In entries above the leaf the bit says nothing.
    value |= bitOf(EPT, "SSS");
    if (leaf) value &= ~bitOf(EPT, "W");
  }
  return value | ((flag.ignored << BigInt(EPT_IGNORED.low)) & maskOf(EPT_IGNORED));
}

/** Linear addresses have 32 bits: others are refused. */
function isNarrow(mode: LegacyMode): boolean {
  return mode !== "4level" && mode !== "5level";
}

function accessOf(flags: AccessFlags, base: bigint, narrow: boolean): AccessStep {
  let access: number = flags.kind;
  if (flags.user) access |= Access.User;
  if (flags.ac) access |= Access.Ac;
  if (flags.otherSegment) access |= Access.OtherSegment;
  if (flags.implicit) access |= Access.Implicit;
  if (flags.stack && flags.kind !== Access.Fetch) access |= Access.ShadowStack;
  if (flags.probe) access |= Access.Probe;
  let address = (base & ~0xfffn) | flags.offset;
  if (flags.flip !== undefined) address ^= 1n << BigInt(flags.flip);
  return { address: narrow ? address & 0xffffffffn : address, access };
}
