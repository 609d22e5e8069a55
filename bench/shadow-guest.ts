/** A guest under shadow paging (or the TDP MMU) for the benchmarks: as many leaf mappings as wanted, data pages unbacked. */
import { SHADOW_CODES } from "../src/abi/shadow.js";
import type { MemslotCore } from "../src/core/mmu/memslot-core.js";
import { type Vcpu, VirtualMachine, type VirtualMachineConfig } from "../src/mmu/index.js";
import { eptMasks, legacyMasks } from "../src/spte/index.js";
import { core } from "./machine.js";

const { RANGE_ZAP } = SHADOW_CODES;
const PAGE = 4096;
const ENTRIES = 512;
const PRESENT = 0x67; // P, RW, US, A, D
export const PHYS_BITS = 46;
/** gfn of the first data page: 4 GiB. */
export const DATA_GFN = 0x10_0000;
/** What the data slot calls its host-virtual addresses; 1 GiB aligned. */
export const DATA_HVA = 0x7f40_0000_0000n;

export interface ShadowShape {
  /** Leaf entries that the guest has; each maps a page of its own. */
  readonly leaves: number;
  /** Leaf entries lie this many entries apart, 1 to 512: with 8 a fault finds no neighbour to map along. */
  readonly stride: number;
  /** Data pages follow each other whatever the stride. Default: they lie as far apart as their entries. */
  readonly dense?: boolean;
  /** Neighbours change places, so that no two leaves are a run. Default false. */
  readonly scattered?: boolean;
  /** The guest also maps its own level-1 tables, one entry a table, behind its other leaves. Default false. */
  readonly selfMapped?: boolean;
  readonly config?: Partial<VirtualMachineConfig>;
  /** Root tables that lead to the same lower tables. Default 1. */
  readonly roots?: number;
}

export interface ShadowGuest {
  readonly vm: VirtualMachine;
  readonly vcpu: Vcpu;
  readonly leaves: number;
  readonly dataSlot: MemslotCore;
  readonly dataPages: number;
  /** Level-1 tables of the guest. */
  readonly tables: number;
  /** CR3 values. */
  readonly roots: readonly bigint[];
  /** Linear address of leaf `index`, less than 2^53. */
  address(index: number): number;
  /** Guest-physical address of the entry of leaf `index`. */
  entry(index: number): number;
  /** Linear address at which the guest sees its level-1 table `index`, if it does. */
  tableAddress(index: number): number;
  /** Guest-physical address of level-1 table `index`. */
  table(index: number): number;
  /** Removes every leaf SPTE of the data pages; shadow tables and host pages stay. */
  forgetLeaves(): void;
  dispose(): void;
}

/** A 4-level guest; its tables fill slot 0, and the pages that they map are slot 1, which nothing reads or writes. */
export function buildShadow(shape: ShadowShape): ShadowGuest {
  const { leaves, stride, config = {}, roots = 1 } = shape;
  const { linear } = core.internals();
  const span = leaves * stride;
  const dataPages = shape.dense ? leaves : span;
  const dataTables = Math.ceil(span / ENTRIES);
  const tables = dataTables + (shape.selfMapped ? Math.ceil(dataTables / ENTRIES) : 0);
  const directories = Math.ceil(tables / ENTRIES);
  const pointers = Math.ceil(directories / ENTRIES);
  const first = 1 + roots;
  const tablePages = first + pointers + directories + tables;
  const nested = (config.paging ?? "shadow") !== "shadow";
  const masks = config.paging === "ept" ? eptMasks({ physBits: PHYS_BITS }) : legacyMasks({ physBits: PHYS_BITS });
  const vm = new VirtualMachine(core, { masks, hostPhysicalBits: PHYS_BITS, ...config });
  const ram = vm.createRam(tablePages * PAGE);
  vm.setSlot({ id: 0, gpa: 0n, size: tablePages * PAGE, ram, hva: 0x7f00_0000_0000n });
  vm.setSlot({ id: 1, gpa: BigInt(DATA_GFN) << 12n, size: dataPages * PAGE, ram, ramSize: PAGE, hva: DATA_HVA });

  const words = linear.u32;
  const put = (gfn: number, index: number, target: number) => {
    const at = (ram + gfn * PAGE + index * 8) >>> 2;
    words[at] = ((target << 12) | PRESENT) >>> 0;
    words[at + 1] = target >>> 20;
  };
  const level1 = first + pointers + directories;
  for (let root = 0; root < roots; root++) for (let i = 0; i < pointers; i++) put(1 + root, i, first + i);
  for (let i = 0; i < directories; i++) put(first + Math.floor(i / ENTRIES), i % ENTRIES, first + pointers + i);
  for (let i = 0; i < tables; i++) put(first + pointers + Math.floor(i / ENTRIES), i % ENTRIES, level1 + i);
  const apart = shape.dense ? 1 : stride;
  for (let i = 0; i < leaves; i++) {
    const at = i * stride;
    put(level1 + Math.floor(at / ENTRIES), at % ENTRIES, DATA_GFN + (shape.scattered ? i ^ 1 : i) * apart);
  }
  if (shape.selfMapped) {
    for (let i = 0; i < dataTables; i++) put(level1 + dataTables + Math.floor(i / ENTRIES), i % ENTRIES, level1 + i);
  }

  const cr3 = Array.from({ length: roots }, (_, i) => BigInt((1 + i) * PAGE));
  const vcpu = vm.createVcpu({ cr0: 0x8001_0001n, cr3: cr3[0]!, cr4: 0x20n, efer: 0xd00n });
  vcpu.enterGuest();
  const dataSlot = vm.state.slots.find(0, 1)!;
  return {
    vm,
    vcpu,
    leaves,
    dataSlot: dataSlot.core,
    dataPages,
    tables: dataTables,
    roots: cr3,
    address: (index) => (nested ? (DATA_GFN + index * apart) * PAGE : index * stride * PAGE),
    tableAddress: (index) => (dataTables * ENTRIES + index) * PAGE,
    table: (index) => (level1 + index) * PAGE,
    entry: (index) => level1 * PAGE + index * stride * 8,
    forgetLeaves: () => {
      vm.state.core.forRange(dataSlot.core, dataSlot.base, dataSlot.base + BigInt(dataPages), 1, 1, RANGE_ZAP);
    },
    dispose: () => vm.dispose(),
  };
}
