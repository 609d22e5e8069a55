/** Guests for the tests of memory accesses: every linear address leads to one level-1 table, whose entries are given. */
import type { Core, CoreMemory, CoreSpace } from "../../src/core/index.js";
import type { AddressSpaceConfig, PageSource } from "../../src/index.js";

export type Mode = "none" | "32bit" | "pae" | "4level" | "5level";
export type Stage = "none" | "ept" | "npt";

const PAGE = 4096;
const P = 1n;
const RW = 2n;
const US = 4n;
const A = 0x20n;
const PS = 0x80n;
const XD = 1n << 63n;

/**
 * Frames: RAM with the guest's tables in front, read-only RAM, a source's, and behind these nothing until the second
 * stage's tables.
 */
export const RAM_FRAMES = 32;
export const READ_ONLY_FRAMES = 8;
export const SOURCE_FRAMES = 8;
export const ALL_FRAMES = 64;
const STAGE_FRAME = 256;
/** Root, and a table a level below it. */
const ROOT = 1;

/** What a leaf entry is: a page table of them is repeated over the whole table. */
export interface Leaf {
  readonly frame: number;
  readonly present: boolean;
  readonly write: boolean;
  readonly user: boolean;
  readonly execute: boolean;
  readonly used: boolean;
}

export interface GuestShape {
  readonly mode: Mode;
  readonly stage: Stage;
  readonly leaves: readonly Leaf[];
  /** One in four entries of level 2 maps a large page. */
  readonly large: boolean;
  /** Of the second stage, for the frames behind the tables. */
  readonly stageLeaves: readonly Leaf[];
  readonly wp: boolean;
  readonly smap: boolean;
  readonly tlb: boolean;
}

export interface Guest {
  readonly memory: CoreMemory;
  readonly space: CoreSpace;
  readonly stage: CoreSpace | undefined;
}

/** Byte n of the source's pages. */
export function sourceByte(gfn: bigint, n: number): number {
  return (Number(gfn) * 31 + n * 7 + 1) & 0xff;
}

export const isRam = (frame: number) => frame < RAM_FRAMES || (frame >= STAGE_FRAME && frame < STAGE_FRAME + 8);
export const isReadOnly = (frame: number) => frame >= RAM_FRAMES && frame < RAM_FRAMES + READ_ONLY_FRAMES;
export const isOfSource = (frame: number) => {
  const first = RAM_FRAMES + READ_ONLY_FRAMES;
  return frame >= first && frame < first + SOURCE_FRAMES;
};

export const source: PageSource = {
  readPage(gfn, into) {
    if (!isOfSource(Number(gfn))) return false;
    for (let n = 0; n < into.length; n++) into[n] = sourceByte(gfn, n);
    return true;
  },
};

export const SLOTS = [
  { gpa: 0, size: RAM_FRAMES * PAGE },
  { gpa: RAM_FRAMES * PAGE, size: READ_ONLY_FRAMES * PAGE, readOnly: true },
  { gpa: STAGE_FRAME * PAGE, size: 8 * PAGE },
];

export function buildGuest(core: Core, shape: GuestShape): Guest {
  const memory = core.createMemory({ slots: SLOTS, source });
  for (let at = 0; at < RAM_FRAMES + READ_ONLY_FRAMES; at++) {
    memory.write(
      at * PAGE,
      Uint8Array.from({ length: PAGE }, (_, n) => (at * 13 + n * 5) & 0xff),
    );
  }
  putTables(memory, shape);
  const stage = putStage(core, memory, shape);
  const config: AddressSpaceConfig = {
    ...registersOf(shape),
    maxPhysAddr: 40,
    ...(stage === undefined ? {} : { secondStage: stage }),
    ...(shape.tlb && stage === undefined ? { tlbEntries: 16 } : {}),
  };
  return { memory, space: core.createAddressSpace(memory, config), stage };
}

function registersOf({ mode, wp, smap }: GuestShape) {
  const long = mode === "4level" || mode === "5level";
  const cr0 = 1 + (mode === "none" ? 0 : 2 ** 31) + (wp ? 0x10000 : 0);
  const cr4 = (mode === "32bit" ? 0x10 : 0x20) | (mode === "5level" ? 0x1000 : 0) | (smap ? 1 << 21 : 0);
  return { cr0, cr3: ROOT * PAGE, cr4, efer: (long ? 0x500 : 0) | (mode === "32bit" || mode === "none" ? 0 : 0x800) };
}

const LEVELS: Record<Mode, number> = { none: 0, "32bit": 2, pae: 3, "4level": 4, "5level": 5 };

function putTables(memory: CoreMemory, { mode, leaves, large }: GuestShape): void {
  const levels = LEVELS[mode];
  const narrow = mode === "32bit";
  for (let level = levels, frame = ROOT; level > 0; level--, frame++) {
    const pdpt = mode === "pae" && level === 3;
    const count = narrow ? 1024 : pdpt ? 4 : 512;
    const entries = narrow ? new Uint32Array(count) : new BigUint64Array(count);
    const below = BigInt(frame + 1) << 12n;
    for (let index = 0; index < count; index++) {
      let entry = pdpt ? below | P : below | P | RW | US | A;
      if (level === 2 && large && index % 4 === 1) entry = P | RW | US | PS;
      if (level === 1) entry = leafEntry(leaves[index % leaves.length]!, !narrow);
      if (entries instanceof Uint32Array) entries[index] = Number(entry);
      else entries[index] = entry;
    }
    memory.write(frame * PAGE, entries);
  }
}

function leafEntry(leaf: Leaf, wide: boolean): bigint {
  const rights = (leaf.write ? RW : 0n) | (leaf.user ? US : 0n) | (wide && !leaf.execute ? XD : 0n);
  return (BigInt(leaf.frame) << 12n) | (leaf.present ? P : 0n) | rights | (leaf.used ? A : 0n);
}

/** Frames of the tables stay where they are, the others are as the leaves say. */
function putStage(core: Core, memory: CoreMemory, { stage, stageLeaves }: GuestShape): CoreSpace | undefined {
  if (stage === "none") return undefined;
  const ept = stage === "ept";
  for (let level = 4, frame = STAGE_FRAME; level > 0; level--, frame++) {
    const entries = new BigUint64Array(512);
    for (let index = 0; index < 512; index++) {
      const leaf = stageLeaves[index % stageLeaves.length]!;
      const below = BigInt(level === 1 ? (index < 16 ? index : leaf.frame) : frame + 1) << 12n;
      const free = level > 1 || index < 16;
      const present = free || leaf.present;
      const write = free || leaf.write;
      const bits = ept
        ? (present ? 5n : 0n) | (present && write ? 2n : 0n) | (level === 1 ? 0x30n : 0n)
        : (present ? P : 0n) | (write ? RW : 0n) | US;
      entries[index] = below | bits;
    }
    memory.write(frame * PAGE, entries);
  }
  return ept
    ? core.createEpt(memory, { eptp: STAGE_FRAME * PAGE + 0x5e })
    : core.createNpt(memory, { ncr3: STAGE_FRAME * PAGE });
}

/** Whether two guests' RAM holds the same bytes. */
export function sameContents(a: CoreMemory, b: CoreMemory): boolean {
  return SLOTS.every(({ gpa, size }) => Buffer.compare(a.read(gpa, size), b.read(gpa, size)) === 0);
}
