/** The shadow MMU's record types, and the 32-bit fields that hot paths read by index. */
import { DESC, EVENT, MEMSLOT, MMU, SLOTSET, SP, VCPU, VM } from "../../abi/shadow.js";
import { TDP } from "../../abi/tdp.js";
import { RecordType } from "../../core/record.js";

export const vmRecord = new RecordType(VM);
export const slotSetRecord = new RecordType(SLOTSET);
export const memslotRecord = new RecordType(MEMSLOT);
export const pageRecord = new RecordType(SP);
export const descRecord = new RecordType(DESC);
export const mmuRecord = new RecordType(MMU);
export const vcpuRecord = new RecordType(VCPU);
export const eventRecord = new RecordType(EVENT);
export const tdpRecord = new RecordType(TDP);

/** Offsets in 32-bit words. */
export const VM_WORD = {
  descCount: vmRecord.offset("DESC_COUNT") >> 2,
  freed: vmRecord.offset("FREED") >> 2,
  rootRequest: vmRecord.offset("ROOT_REQUEST") >> 2,
  eventCount: vmRecord.offset("EVENT_COUNT") >> 2,
  validGen: vmRecord.offset("VALID_GEN") >> 2,
} as const;

export const PAGE_WORD = {
  gfn: pageRecord.offset("GFN") >> 2,
  role: pageRecord.offset("ROLE") >> 2,
  spt: pageRecord.offset("SPT") >> 2,
  shadowed: pageRecord.offset("SHADOWED") >> 2,
  generation: pageRecord.offset("GENERATION") >> 2,
  link: pageRecord.offset("LINK") >> 2,
  tdp: pageRecord.offset("TDP") >> 2,
  low: pageRecord.offset("LOW") >> 2,
  flood: pageRecord.offset("FLOOD") >> 2,
  current: pageRecord.offset("CURRENT") >> 2,
  pdptes: pageRecord.offset("PDPTES") >> 2,
} as const;

export const MMU_WORD = {
  root: mmuRecord.offset("ROOT") >> 2,
  previous: mmuRecord.offset("PREVIOUS") >> 2,
} as const;

/** Offsets in 64-bit words. */
export const MMU_WIDE = {
  rootPgd: mmuRecord.offset("ROOT_PGD") >> 3,
  previousPgd: mmuRecord.offset("PREVIOUS_PGD") >> 3,
} as const;

export const VCPU_WORD = {
  reqGfn: vcpuRecord.offset("REQ_GFN") >> 2,
  reqRole: vcpuRecord.offset("REQ_ROLE") >> 2,
  reqLow: vcpuRecord.offset("REQ_LOW") >> 2,
  reqPage: vcpuRecord.offset("REQ_PAGE") >> 2,
  pdptesRead: vcpuRecord.offset("PDPTES_READ") >> 2,
} as const;

export const TDP_WORD = { poolCount: tdpRecord.offset("POOL_COUNT") >> 2 } as const;

/** The kernel's INVALID_PAGE: no root. */
export const INVALID_PAGE = 0xffff_ffff_ffff_ffffn;
