/**
 * The tables of an L1 hypervisor for its nested guest, in any format, and the nested guest's own: built once, then edited
 * entry by entry. Neither L2's tables nor its data lie where their addresses say.
 */
import { FULL, type Guest, HIGH_SLOT, MMIO_GPA, type Mode } from "../guest.js";
import { EPT, EPT_RWX } from "../nested-guest.js";
import { NEIGHBOURS } from "./neighbours.js";

export type SecondFormat = Exclude<Mode, "nopg"> | "ept4" | "ept5";

/** L2's guest-physical addresses that are looked at. The one at 1 GiB is in a large page of L1's. */
export const L2_GPAS = [0x40_0000n, 0x40_1000n, 0x60_3000n, 0x4000_3000n, 0x8000_5000n, 0xc000_0000n, 0xc040_1000n];
/** L2's linear addresses that lead to them. */
export const L2_GVAS = L2_GPAS.map((_, i) => 0x100_0000n + BigInt(i) * 0x20_1000n);
export const DATA = 0x20_0000n;
export const READ_ONLY_GPA = 0x3000_0000n;

/** L2's guest-physical address of its tables less L1's. */
export const L2_SHIFT = 0x100_0000n;

const ROOTS = 3;
const L2_ROOTS = 2;
const ADDRESS = 0x000f_ffff_ffff_f000n;
const PS = 0x80n;
const NX = 1n << 63n;
const RESERVED_LEGACY = 1n << 50n;
const RESERVED_PDPTE = 2n;
/** Memory type 2 is none. */
const BAD_TYPE = 2n << 3n;

interface Table {
  readonly address: bigint;
  readonly level: number;
}

export class NestedTables {
  /** L1's second-stage roots; a PAE one has bits 11:5. */
  readonly roots: bigint[] = [];
  readonly tables: Table[] = [];
  /** L2's own roots, none where it does not page. */
  readonly l2Roots: bigint[] = [];
  /** By L2's guest-physical addresses. */
  readonly l2Tables: Table[] = [];
  /** Every entry as it was built. */
  readonly #pristine = new Map<bigint, bigint>();

  constructor(
    readonly guest: Guest,
    readonly format: SecondFormat,
    readonly pse: boolean,
    readonly l2Mode: Mode,
  ) {
    const first = this.#nextTable();
    if (l2Mode !== "nopg") this.#buildL2();
    const last = this.#nextTable();
    for (let r = 0; r < ROOTS; r++) this.#buildRoot(r, first, last);
    for (const { address } of this.tables) {
      for (let at = address; at < address + 0x1000n; at += 8n) {
        const entry = this.#read8(at);
        if (entry !== 0n) this.#pristine.set(at, entry);
      }
    }
  }

  get isEpt(): boolean {
    return this.format === "ept4" || this.format === "ept5";
  }

  /** Levels of L1's second stage. */
  get levels(): number {
    if (this.format === "ept4") return 4;
    if (this.format === "ept5") return 5;
    return this.guest.levels(this.format);
  }

  get entryBytes(): number {
    return this.format === "32" ? 4 : 8;
  }

  #nextTable(): bigint {
    return this.guest.table();
  }

  #read8(at: bigint): bigint {
    return this.guest.vm.state.core.internals.linear.u64[(this.guest.ram + Number(at)) / 8]!;
  }

  /** Table-building helpers work in one format at a time. */
  #in<T>(mode: Mode, build: () => T): T {
    this.guest.mode = mode;
    return build();
  }

  #buildL2(): void {
    const { guest, l2Mode } = this;
    this.#in(l2Mode, () => {
      for (let r = 0; r < L2_ROOTS; r++) {
        const root = guest.table();
        this.l2Roots.push(root);
        L2_GVAS.forEach((gva, i) => {
          guest.map(root, gva, L2_GPAS[i]!);
        });
        this.#collect(this.l2Tables, root, guest.levels(), L2_GVAS, (table, gva, level) =>
          guest.entryAddress(table, gva, level),
        );
      }
    });
    this.#shiftL2();
  }

  /** From here on L2's tables lie at its own addresses. */
  #shiftL2(): void {
    const { guest, l2Mode } = this;
    guest.mode = l2Mode;
    for (const { address, level } of this.l2Tables) {
      if (level === 1) continue;
      for (let at = address; at < address + 0x1000n; at += BigInt(guest.entryBytes)) {
        if (guest.read(at) !== 0n) guest.poke(at, guest.read(at) + L2_SHIFT);
      }
    }
    this.l2Roots.forEach((root, i) => {
      this.l2Roots[i] = root + L2_SHIFT;
    });
    this.l2Tables.forEach((table, i) => {
      this.l2Tables[i] = { ...table, address: table.address + L2_SHIFT };
    });
  }

  /** One root: data behind each probe, and L2's tables (those from `first` to `last`). */
  #buildRoot(r: number, first: bigint, last: bigint): void {
    // Several page-directory-pointer tables can share a page.
    const page = r === 0 || this.format !== "pae" ? this.guest.table() : this.roots[0]! & ~0xfffn;
    const root = this.format === "pae" ? page | BigInt(0x20 * r) : page;
    this.roots.push(root);
    L2_GPAS.forEach((gpa, i) => {
      if (i !== 3 || !this.#canBeLarge) this.#map(root, gpa, DATA + (BigInt(16 * r + i) << 12n), 1);
      else this.#map(root, gpa & ~0x3f_ffffn, HIGH_SLOT, 2);
    });
    for (let at = first; at < last; at += 0x1000n) this.#map(root, at + L2_SHIFT, at, 1);
    this.#collect(this.tables, root, this.levels, L2_GPAS, (table, gpa, level) => this.entryAddress(table, gpa, level));
  }

  get #canBeLarge(): boolean {
    return this.format !== "32" || this.pse;
  }

  #collect(
    into: Table[],
    root: bigint,
    levels: number,
    probes: readonly bigint[],
    entryAddress: (table: bigint, probe: bigint, level: number) => bigint,
  ): void {
    const visit = (address: bigint, level: number) => {
      if (into.some((one) => one.address === address)) return;
      into.push({ address: address & ~0xfffn, level });
      if (level === 1) return;
      for (const probe of probes) {
        const at = entryAddress(address, probe, level);
        const entry = into === this.tables && this.format === "32" ? this.#read4(at) : this.#readL2(into, at);
        if (entry !== 0n && !(level < 4 && level > 1 && entry & PS)) visit(entry & ADDRESS, level - 1);
      }
    };
    visit(root, levels);
  }

  #read4(at: bigint): bigint {
    return (this.#read8(at & ~7n) >> (at & 4n ? 32n : 0n)) & 0xffff_ffffn;
  }

  #readL2(into: Table[], at: bigint): bigint {
    return into === this.l2Tables && this.l2Mode === "32" ? this.#read4(at) : this.#read8(at);
  }

  /** Address of the entry for `gpa` in a table of L1's second stage. */
  entryAddress(table: bigint, gpa: bigint, level: number): bigint {
    const { format } = this;
    if (format !== "ept4" && format !== "ept5")
      return this.#in(format, () => this.guest.entryAddress(table, gpa, level));
    return (table & ~0xfffn) + ((gpa >> BigInt(12 + 9 * (level - 1))) & 511n) * 8n;
  }

  #map(root: bigint, gpa: bigint, to: bigint, leafLevel: 1 | 2): void {
    const { guest, format } = this;
    if (format !== "ept4" && format !== "ept5") {
      this.#in(format, () => guest.map(root, gpa, to, FULL, leafLevel));
      return;
    }
    guest.mode = "4level";
    let table = root;
    for (let level = this.levels; level > leafLevel; level--) {
      const at = this.entryAddress(table, gpa, level);
      if (guest.read(at) === 0n) guest.poke(at, guest.table() | EPT_RWX);
      table = guest.read(at) & ADDRESS;
    }
    const large = leafLevel > 1 ? PS : 0n;
    guest.poke(this.entryAddress(table, gpa, leafLevel), to | EPT_RWX | EPT.wb | EPT.a | EPT.d | large);
  }

  /** A random edit of L1's second stage: where, and the entry. Every fourth puts back what was built. */
  edit(b: number, c: number): { at: bigint; entry: bigint } {
    const { address, level } = this.tables[b % this.tables.length]!;
    const table = this.format === "pae" && level === 3 ? this.roots[(b >>> 8) % ROOTS]! : address;
    const at = this.entryAddress(table, L2_GPAS[(b >>> 4) % L2_GPAS.length]!, level);
    return { at, entry: c % 4 === 0 ? this.#built(at) : this.#entry(level, c >>> 2) };
  }

  #built(at: bigint): bigint {
    const both = this.#pristine.get(at & ~7n) ?? 0n;
    return this.entryBytes === 8 ? both : (both >> (at & 4n ? 32n : 0n)) & 0xffff_ffffn;
  }

  #entry(level: number, c: number): bigint {
    const lower = this.tables.filter((table) => table.level === level - 1);
    const next = lower[(c >>> 6) % Math.max(lower.length, 1)];
    const flags = this.#flags(c >>> 10);
    if (level > 1 && next !== undefined && c % 4 !== 0) {
      if (this.format === "pae" && level === 3) return next.address | ((c >>> 10) % 8 === 0 ? RESERVED_PDPTE : 0n) | 1n;
      return next.address | (this.isEpt ? flags & EPT_RWX : flags & ~0x40n);
    }
    if (level === 2 && c % 8 === 0 && this.#canBeLarge) return HIGH_SLOT | flags | PS;
    if (level > 1) return 0n;
    const targets = [
      DATA + (BigInt((c >>> 4) % 64) << 12n),
      this.tables[(c >>> 4) % this.tables.length]!.address,
      HIGH_SLOT + 0x3000n,
      READ_ONLY_GPA,
      MMIO_GPA,
      ...NEIGHBOURS.flatMap(({ gpa, pages }) => [gpa, gpa + (BigInt(pages - 1) << 12n)]),
      this.roots[0]! & ADDRESS,
    ];
    return targets[c % targets.length]! | flags;
  }

  #flags(c: number): bigint {
    if (this.isEpt) {
      const rights = [EPT_RWX, EPT_RWX, EPT.r, EPT.x, EPT.r | EPT.w, 0n, EPT.w, EPT.r | EPT.x, EPT_RWX | BAD_TYPE];
      const chosen = rights[c % rights.length]!;
      return chosen & BAD_TYPE ? chosen : chosen | EPT.wb | (c & 32 ? EPT.a | EPT.d : 0n);
    }
    const flags = [
      FULL,
      FULL,
      FULL & ~2n,
      FULL & ~4n,
      FULL & ~0x20n,
      FULL & ~0x40n,
      0n,
      FULL | NX,
      FULL | RESERVED_LEGACY,
    ];
    const chosen = flags[c % flags.length]!;
    return this.format === "32" ? chosen & 0xfffn : chosen;
  }

  /** A random edit of L2's own tables; `at` is L2's guest-physical address. */
  editL2(b: number, c: number): { at: bigint; entry: bigint; bytes: number } | undefined {
    const bytes = this.l2Mode === "32" ? 4 : 8;
    const leaves = this.l2Tables.filter((table) => table.level === 1);
    if (leaves.length === 0) return undefined;
    const { address } = leaves[b % leaves.length]!;
    const at = this.#in(this.l2Mode, () => this.guest.entryAddress(address, L2_GVAS[(b >>> 4) % L2_GVAS.length]!, 1));
    const flags = [FULL, FULL & ~2n, FULL & ~4n, FULL & ~0x20n, FULL & ~0x60n, 0n][(c >>> 4) % 6]!;
    return { at, entry: L2_GPAS[c % L2_GPAS.length]! | flags, bytes };
  }
}
