/**
 * Faults of guests that the quick path may not serve: other modes, large pages, A/D flags to set, logged slots, traced VMs, and
 * nested guests, each beside the quick fault of a plain 4-level guest.
 */
import { SHADOW_CODES } from "../src/abi/shadow.js";
import type { MemslotCore } from "../src/core/mmu/memslot-core.js";
import {
  FAULT_CODE,
  type SecondStage,
  type Vcpu,
  VirtualMachine,
  type VirtualMachineConfig,
} from "../src/mmu/index.js";
import { eptMasks, legacyMasks } from "../src/spte/index.js";
import { core, random } from "./machine.js";
import type { Section } from "./report.js";
import { type Candidate, compare, type RoundOptions } from "./rounds.js";
import { PHYS_BITS } from "./shadow-guest.js";

const PAGE = 4096;
/** Faults in a run. */
const FAULTS = 1024;
/** Pages from one fault's to the next one's: none finds a neighbour to map along. */
const STRIDE = 8;
/** 1 GiB: every mode reaches it. */
const DATA_GFN = 0x4_0000;
const DATA_HVA = 0x7f40_0000_0000n;
const WRITE = 2;
const READ = 0;

const PRESENT = 0x67; // P, RW, US, A, D
const ACCESSED_DIRTY = 0x60;
const LARGE = 0x80;
const PDPTE = 1;
/** Read, write, execute, write-back, accessed, dirty; no memory type in entries that lead to tables. */
const EPT_TABLE = 0x107;
const EPT_LEAF = 0x337;

const LONG = { cr0: 0x8001_0001n, cr4: 0x20n, efer: 0xd00n };
const UNPAGED = { cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n };

/** What a guest is. */
interface Kind {
  readonly name: string;
  readonly levels: number;
  readonly registers?: { readonly cr0: bigint; readonly cr4: bigint; readonly efer: bigint };
  readonly narrow?: boolean;
  readonly large?: boolean;
  /** A and D of the leaf entries are clear at each fault. */
  readonly clearsFlags?: boolean;
  readonly logged?: boolean;
  readonly nested?: boolean;
  readonly config?: Partial<VirtualMachineConfig>;
}

const KINDS: readonly Kind[] = [
  { name: "4-level, the quick fault", levels: 4 },
  { name: "32-bit", levels: 2, narrow: true, registers: { ...LONG, cr4: 0x10n, efer: 0n } },
  { name: "PAE", levels: 3, registers: { ...LONG, efer: 0x800n } },
  { name: "5-level", levels: 5, registers: { ...LONG, cr4: 0x1020n } },
  { name: "4-level, pages of 2 MiB (cold: seven neighbours along)", levels: 4, large: true },
  { name: "4-level, A and D to set", levels: 4, clearsFlags: true },
  { name: "4-level, logged slot", levels: 4, logged: true },
  { name: "4-level, traced, nobody reads", levels: 4, config: { eventCapacity: 1024 } },
  {
    name: "nested, EPT on EPT",
    levels: 4,
    nested: true,
    config: { paging: "ept", virtualization: "vmx", masks: eptMasks({ physBits: PHYS_BITS }) },
  },
];

/** Tables in a guest's RAM, made where a mapping asks for them. */
class Tables {
  readonly root: number;
  #free = 1;

  constructor(
    readonly kind: Kind,
    readonly ram: number,
  ) {
    this.root = this.#free++;
  }

  /** Maps a page of 4 KiB, or the large one that it is in; returns the linear address of its entry. */
  map(vaPage: number, gfn: number): number {
    const { levels, large, nested } = this.kind;
    const last = large ? 2 : 1;
    let table = this.root;
    for (let level = levels; level > last; level--) {
      const at = this.#place(table, vaPage, level);
      if (this.#read(at) === 0) this.#put(at, this.#free++, nested ? EPT_TABLE : this.#tableFlags(level));
      table = this.#read(at);
    }
    const at = this.#place(table, vaPage, last);
    const frame = large ? gfn - (gfn % this.#span(2)) : gfn;
    this.#put(at, frame, nested ? EPT_LEAF : PRESENT | (large ? LARGE : 0));
    return at;
  }

  #tableFlags(level: number): number {
    return this.kind.levels === 3 && level === 3 ? PDPTE : PRESENT;
  }

  /** Pages of 4 KiB that an entry stands for. */
  #span(level: number): number {
    return (this.kind.narrow ? 1024 : 512) ** (level - 1);
  }

  #place(table: number, vaPage: number, level: number): number {
    const index = Math.floor(vaPage / this.#span(level)) % (this.kind.narrow ? 1024 : 512);
    return this.ram + table * PAGE + index * (this.kind.narrow ? 4 : 8);
  }

  #read(at: number): number {
    return core.internals().linear.u32[at / 4]! >>> 12;
  }

  #put(at: number, frame: number, flags: number): void {
    const words = core.internals().linear.u32;
    words[at / 4] = ((frame << 12) | flags) >>> 0;
    if (!this.kind.narrow) words[at / 4 + 1] = frame >>> 20;
  }
}

interface Load {
  readonly kind: Kind;
  readonly vm: VirtualMachine;
  readonly vcpu: Vcpu;
  readonly low: Uint32Array;
  readonly slot: MemslotCore;
  readonly base: bigint;
  /** Indexes of the leaf entries in 32-bit words of linear memory. */
  readonly entries: Uint32Array;
}

const TABLE_PAGES = 64;
const DATA_PAGES = FAULTS * STRIDE;

function prepare(kind: Kind): Load {
  const vm = new VirtualMachine(core, {
    masks: legacyMasks({ physBits: PHYS_BITS }),
    hostPhysicalBits: PHYS_BITS,
    ...kind.config,
  });
  const ram = vm.createRam(TABLE_PAGES * PAGE);
  vm.setSlot({ id: 0, gpa: 0n, size: TABLE_PAGES * PAGE, ram, hva: 0x7f00_0000_0000n });
  const data = { id: 1, gpa: BigInt(DATA_GFN * PAGE), size: DATA_PAGES * PAGE, ram, ramSize: PAGE, hva: DATA_HVA };
  vm.setSlot({ ...data, logDirty: kind.logged === true });
  const tables = new Tables(kind, ram);
  const next = random(3);
  const order = Array.from({ length: FAULTS }, (_, index) => index * STRIDE);
  for (let i = FAULTS - 1; i > 0; i--) {
    const other = Math.floor(next() * (i + 1));
    [order[i], order[other]] = [order[other]!, order[i]!];
  }
  const entries = Uint32Array.from(order, (page) => tables.map(page, DATA_GFN + page) / 4);
  const root = BigInt(tables.root * PAGE);
  const registers = kind.registers ?? LONG;
  const vcpu = vm.createVcpu({ ...registers, cr3: kind.nested ? 0n : root });
  vcpu.enterGuest();
  if (kind.nested) {
    // A walk of four levels, write-back, with A/D flags.
    const eptp = root | 6n | (3n << 3n) | 0x40n;
    const stage: SecondStage = { kind: "ept", eptp, executeOnly: true, hugePageLevel: 3, accessedDirty: true };
    vcpu.enterNested(UNPAGED, stage);
    vcpu.enterGuest();
  }
  const { core: slot, base } = vm.state.slots.find(0, 1)!;
  return { kind, vm, vcpu, low: Uint32Array.from(order, (page) => page * PAGE), slot, base, entries };
}

function clearFlags({ entries }: Load): void {
  const words = core.internals().linear.u32;
  for (const at of entries) words[at] = words[at]! & ~ACCESSED_DIRTY;
}

function forget({ vm, slot, base }: Load): void {
  vm.state.core.forRange(slot, base, base + BigInt(DATA_PAGES), 1, 1, SHADOW_CODES.RANGE_ZAP);
}

/** Every fault of a run ends as expected; anything else would measure something else. */
function expectCodes({ kind, vcpu, low }: Load, error: number, ...codes: readonly number[]): void {
  for (const address of low) {
    const found = vcpu.fault(address, 0, error);
    if (!codes.includes(found)) throw new Error(`${kind.name}: a fault ended with ${found}, expected ${codes}`);
  }
}

function candidate(load: Load, error: number, before: (() => void) | undefined): Candidate {
  const { kind, vcpu, low } = load;
  return {
    name: kind.name,
    work: FAULTS,
    ...(before === undefined ? {} : { before }),
    run: () => {
      for (let i = 0; i < FAULTS; i++) vcpu.fault(low[i]!, 0, error);
    },
  };
}

export function* measureKinds(options: RoundOptions): Generator<Section> {
  const loads = KINDS.map(prepare);
  const clear = (load: Load) => (load.kind.clearsFlags ? () => clearFlags(load) : undefined);
  for (const load of loads) {
    expectCodes(load, WRITE, FAULT_CODE.fixed);
    // The first read takes the dirty bit of the write back (make_spte).
    expectCodes(load, READ, FAULT_CODE.fixed, FAULT_CODE.spurious);
    expectCodes(load, READ, FAULT_CODE.spurious);
  }
  const spurious = loads.map((load) => candidate(load, READ, clear(load)));
  yield { title: "Faults of every kind of guest, spurious", unit: "fault", results: compare(spurious, options) };
  const cold = loads.map((load) =>
    candidate(load, WRITE, () => {
      clear(load)?.();
      forget(load);
    }),
  );
  yield { title: "Faults of every kind of guest, cold", unit: "fault", results: compare(cold, options) };
  for (const { vm } of loads) vm.dispose();
}
