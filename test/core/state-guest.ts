/**
 * A guest whose tables are edited at random while its registers change, over a memory in a core of its own: what its space
 * answers is written down, so that two runs can be compared.
 */
import {
  Access,
  type AddressSpaceConfig,
  type Core,
  type CoreMemory,
  type CoreSpace,
  decodeFault,
  PagingError,
} from "../../src/index.js";
import { createMemory, createSpace, saveMemory, saveSpace } from "../../src/state/index.js";

export const MODES = ["none", "32bit", "pae", "pae live", "4level", "5level", "4level, lam off", "lenient"] as const;
export type GuestMode = (typeof MODES)[number];

export type Step = readonly [what: number, a: number, b: number, c: number];

const CR4 = {
  pse: 0x10,
  pae: 0x20,
  pge: 0x80,
  la57: 0x1000,
  pcide: 0x20000,
  smep: 0x100000,
  smap: 0x200000,
  pke: 0x400000,
};
const WP = 0x10000;
const LONG = 0x500;
const NXE = 0x800;
const NO_FLUSH = 1n << 63n;
const RAM = 0x20_0000;
/** Three roots; tables of each behind it, one a page. */
const ROOTS = [0x1_0000, 0x2_0000, 0x3_0000];
const LEAVES = [0x67n, 0x63n, 0x65n, 0x27n, 0x25n, 0x167n, 0x127n, 0n];
const ACCESSES = [Access.Read, Access.Write, Access.Fetch, Access.User, Access.User | Access.Write, Access.Ac];
/** Pages that are looked at: two in a table, a large one. */
const PAGES = 10;
const LARGE = 0x20_0000;

export function configOf(mode: GuestMode, tlbEntries: number): AddressSpaceConfig {
  const paging = mode === "none" ? 0x10001 : 0x8001_0001;
  const common = { cr0: paging, cr3: ROOTS[0]!, tlbEntries };
  if (mode === "none" || mode === "32bit") return { ...common, cr4: CR4.pse, efer: 0 };
  if (mode === "pae" || mode === "pae live") {
    return { ...common, cr4: CR4.pae, efer: NXE, pdptes: mode === "pae" ? "latched" : "live" };
  }
  const five = mode === "5level" ? CR4.la57 : 0;
  return {
    ...common,
    cr4: CR4.pae | CR4.pge | CR4.pcide | CR4.pke | five,
    efer: LONG | NXE,
    ...(mode === "4level, lam off" ? { cpu: { lam: false } } : {}),
    ...(mode === "lenient" ? { lenient: true, origin: { cr3: "guessed" } } : {}),
  };
}

export class StateGuest {
  readonly log: unknown[] = [];

  constructor(
    readonly core: Core,
    readonly mode: GuestMode,
    public memory: CoreMemory,
    public space: CoreSpace,
  ) {}

  static make(core: Core, mode: GuestMode, tlbEntries: number, staged: boolean): StateGuest {
    const memory = core.createMemory({ slots: [{ gpa: 0, size: RAM }] });
    for (const root of ROOTS) build(memory, mode, root);
    const second = staged ? identity(core, memory) : {};
    const space = core.createAddressSpace(memory, { ...configOf(mode, tlbEntries), ...second });
    return new StateGuest(core, mode, memory, space);
  }

  /** The same guest in another core, made of saved states. */
  moved(core: Core): StateGuest {
    const { config } = this.space.configuration as { config: AddressSpaceConfig };
    const second = config.secondStage as CoreSpace | undefined;
    const memory = createMemory(core, saveMemory(this.memory, { ram: true }));
    const stage = second && createSpace(core, memory, saveSpace(second));
    const space = createSpace(core, memory, saveSpace(this.space), stage && { secondStage: stage });
    return new StateGuest(core, this.mode, memory, space);
  }

  step([what, a, b, c]: Step): void {
    try {
      this.log.push(this.#do(what % 20, a, b, c));
    } catch (error) {
      if (!(error instanceof PagingError) && !(error instanceof RangeError)) throw error;
      this.log.push(`${error.name}: ${error.message}`);
    }
  }

  #do(what: number, a: number, b: number, c: number): unknown {
    const { space, memory } = this;
    const address = a % (PAGES + 1) === PAGES ? LARGE + (b % 4) * 4096 : (a % PAGES) * 4096;
    const access = ACCESSES[b % ACCESSES.length]!;
    if (what < 8) {
      const found = space.translateFast(0, address, access);
      return found < 0 ? decodeFault(found) : found;
    }
    if (what === 8) {
      const status = space.translateLine(0, address, access);
      // The other words are those of earlier results.
      return status === 0
        ? [...this.core.resultLine.subarray(1, 12)]
        : [status, ...this.core.resultLine.subarray(11, 17)];
    }
    if (what === 9) return space.translate(address, access);
    if (what < 13) {
      const root = ROOTS[c % ROOTS.length]!;
      const entry = LEAVES[b % LEAVES.length]!;
      // The frame says which edit it was: stale translations are told apart.
      const frame = entry === 0n ? 0n : BigInt(0x100 + (c % 64)) << 12n;
      writeEntry(memory, this.mode, leafTable(this.mode, root), a % PAGES, frame | entry);
      return undefined;
    }
    if (what === 13) {
      const keep = this.#isLong && b % 2 === 0 ? NO_FLUSH : 0n;
      return space.writeCr3(BigInt(ROOTS[a % ROOTS.length]! | (this.#isLong ? c % 3 : 0)) | keep);
    }
    if (what === 14) return space.setPkru([0, 4, 8, 1][b % 4]!);
    if (what === 15) return space.invlpg(address);
    if (what === 16 && this.#isLong) return space.invpcid(b % 4, b % 4 > 1 ? 0 : c % 3, address);
    if (what === 17) return this.#update(b, c);
    if (what === 18) return [space.registers, space.pdptes, space.tlbStatistics, space.mode];
    if (what === 19 && c % 8 === 0) memory.a20 = b % 2 === 0;
    return undefined;
  }

  get #isLong(): boolean {
    return !["none", "32bit", "pae", "pae live"].includes(this.mode);
  }

  #update(b: number, c: number): void {
    const { cr0, cr4, efer } = this.space.registers!;
    const flip = [CR4.pge, CR4.smep, CR4.smap][c % 3]!;
    const paging = this.mode === "none" || this.#isLong ? 0n : 0x8000_0000n;
    if (b % 5 === 0) this.space.update({ cr0: cr0 ^ BigInt(WP) });
    else if (b % 5 === 1) this.space.update({ cr4: cr4 ^ BigInt(flip) });
    else if (b % 5 === 2) this.space.update({ cr0: cr0 ^ paging });
    else if (b % 5 === 3 && this.mode !== "32bit") this.space.update({ efer: efer ^ BigInt(NXE) });
    else if (c % 4 === 0) this.space.update({ maxPhysAddr: 40 + (c % 8), accessedOnFault: c % 3 === 0 });
  }
}

/** Levels of tables below the root, the last one level 1. */
function depth(mode: GuestMode): number {
  if (mode === "none" || mode === "32bit") return 2;
  if (mode === "pae" || mode === "pae live") return 3;
  return mode === "5level" ? 5 : 4;
}

function leafTable(mode: GuestMode, root: number): number {
  return root + (depth(mode) - 1) * 0x1000;
}

function writeEntry(memory: CoreMemory, mode: GuestMode, table: number, index: number, entry: bigint): void {
  if (mode === "none" || mode === "32bit") memory.writeU32(table + index * 4, Number(entry & 0xffff_ffffn));
  else memory.writeU64(table + index * 8, entry);
}

/** Tables that map the pages to other frames under each root, and a large page. */
function build(memory: CoreMemory, mode: GuestMode, root: number): void {
  const levels = depth(mode);
  for (let level = levels; level > 1; level--) {
    const table = root + (levels - level) * 0x1000;
    const bits = mode.startsWith("pae") && level === 3 ? 1n : 0x27n;
    writeEntry(memory, mode, table, 0, BigInt(table + 0x1000) | bits);
    if (level === 2) writeEntry(memory, mode, table, 1, 0x1c7n | (mode === "32bit" ? 0x40_0000n : 0x20_0000n));
  }
  for (let page = 0; page < PAGES; page++) {
    writeEntry(memory, mode, leafTable(mode, root), page, BigInt(root + page * 0x1000) | LEAVES[page % LEAVES.length]!);
  }
}

/** EPT that maps everything as it is, by pages of 1 GiB. */
function identity(core: Core, memory: CoreMemory): { secondStage: CoreSpace } {
  const table = 0x10_0000;
  memory.writeU64(table, BigInt(table + 0x1000) | 7n);
  for (let page = 0; page < 4; page++) memory.writeU64(table + 0x1000 + page * 8, (BigInt(page) << 30n) | 0xb7n);
  return { secondStage: core.createEpt(memory, { eptp: table | 0x1e }) };
}
