/** The state of a VM's shadow pages, for people and for comparison. */

import type { Machine } from "../machine/machine.js";
import { PAGE_WORD, pageRecord, vmRecord } from "../memory/records.js";

/** One shadow page. */
export interface ShadowPage {
  /** Linear address of its header: names the page. */
  readonly pointer: number;
  /** Linear address of its table. */
  readonly table: number;
  /** Host-physical address of its table. */
  readonly hostAddress: bigint;
  readonly gfn: bigint;
  /** In this project's layout. */
  readonly role: number;
  readonly rootCount: number;
  readonly generation: number;
  readonly unsync: boolean;
  readonly unsyncChildren: number;
  readonly writeFlooding: number;
  readonly noHugePage: boolean;
  /** Belongs to the TDP MMU. */
  readonly tdp: boolean;
  /** CR3 bits 11:5 of a PAE guest's root table; bit 0: it is one; bit 1: its PDPTEs are latched. */
  readonly low: number;
  /** Of a direct page: the alias bits of the gfns that it maps. */
  readonly alias: bigint;
  /** Non-zero SPTEs by index. */
  readonly entries: ReadonlyMap<number, bigint>;
  /**
   * gfn << 12 | access that stands, or last stood, behind each SPTE; empty where the page has no translations of its own.
   */
  readonly shadowed: ReadonlyMap<number, bigint>;
}

const ROLE_PAE_ROOT = 1 << 19;

export function readPage(vm: Machine, pointer: number): ShadowPage {
  const { linear } = vm;
  const table = linear.u32[(pointer >>> 2) + PAGE_WORD.spt]!;
  const array = linear.u32[(pointer >>> 2) + PAGE_WORD.shadowed]!;
  const role = linear.u32[(pointer >>> 2) + PAGE_WORD.role]!;
  const entries = new Map<number, bigint>();
  const shadowed = new Map<number, bigint>();
  for (let index = 0; index < 512; index++) {
    const spte = linear.u64[table / 8 + index]!;
    if (spte !== 0n) entries.set(index, spte);
    const translation = array === 0 ? 0n : linear.u64[array / 8 + index]!;
    if (translation !== 0n) shadowed.set(index, translation);
  }
  const low = (role & ROLE_PAE_ROOT) !== 0;
  return {
    pointer,
    table,
    hostAddress: BigInt(table) + (low ? 0n : vmRecord.get64(linear, vm.pointer, "NORMAL_ZONE")),
    gfn: pageRecord.get64(linear, pointer, "GFN"),
    role,
    rootCount: pageRecord.get32(linear, pointer, "ROOT_COUNT"),
    generation: pageRecord.get32(linear, pointer, "GENERATION"),
    unsync: pageRecord.get32(linear, pointer, "UNSYNC") !== 0,
    unsyncChildren: pageRecord.get32(linear, pointer, "UNSYNC_CHILDREN"),
    writeFlooding: pageRecord.get32(linear, pointer, "FLOOD"),
    noHugePage: pageRecord.get32(linear, pointer, "NO_HUGE") !== 0,
    tdp: pageRecord.get32(linear, pointer, "TDP") !== 0,
    low: pageRecord.get32(linear, pointer, "LOW") & 0xfff,
    alias: BigInt(pageRecord.get32(linear, pointer, "LOW") >>> 12) << 20n,
    entries,
    shadowed,
  };
}

/** The active pages: those of the TDP MMU, and the others newest first. */
export function shadowPages(vm: Machine): ShadowPage[] {
  return [...(vm.tdpMmu?.pages() ?? []), ...vm.pages.active()].map((pointer) => readPage(vm, pointer));
}
