/** The state of a VM's shadow pages, for people and for comparison. */

import { fieldOf, maskOf } from "../../abi/bits.js";
import { SP_LOW } from "../../abi/shadow.js";
import { roleIsPaeRoot } from "../../role/index.js";
import type { Machine } from "../machine/machine.js";

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
  /** SPTEs that stand for something, by index. */
  readonly entries: ReadonlyMap<number, bigint>;
  /**
   * gfn << 12 | access that stands, or last stood, behind each SPTE; empty where the page has no translations of its own.
   */
  readonly shadowed: ReadonlyMap<number, bigint>;
}

const ALIAS = fieldOf(SP_LOW, "ALIAS");
/** Where the alias bits lie in a gfn: address bit 32 is bit 20. */
const ALIAS_IN_GFN = 20n;

export function readPage(vm: Machine, pointer: number): ShadowPage {
  const { pages, vm: record } = vm.core;
  const header = pages.header(pointer);
  const { role, low, spt: table } = header;
  const entries = pages.words(table, record.empty);
  const shadowed = header.shadowed === 0 ? new Map<number, bigint>() : pages.words(header.shadowed, 0n);
  return {
    pointer,
    table,
    hostAddress: BigInt(table) + (roleIsPaeRoot(role) ? 0n : record.normalZone),
    gfn: header.gfn,
    role,
    rootCount: header.rootCount,
    generation: header.generation,
    unsync: header.unsync !== 0,
    unsyncChildren: header.unsyncChildren,
    writeFlooding: header.flood,
    noHugePage: header.forbidden !== 0,
    tdp: header.tdp !== 0,
    low: low & ~Number(maskOf(ALIAS)),
    alias: BigInt(low >>> ALIAS.low) << ALIAS_IN_GFN,
    entries,
    shadowed,
  };
}

/** The active pages: those of the TDP MMU, and the others newest first. */
export function shadowPages(vm: Machine): ShadowPage[] {
  return [...(vm.tdpMmu?.pages() ?? []), ...vm.pages.active()].map((pointer) => readPage(vm, pointer));
}
