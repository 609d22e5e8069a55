/** Trace events in the vocabulary of the kernel's kvmmmu tracepoints, decoded from the records that the core leaves behind. */
import { bitOf, fieldOf, flagOf } from "../../abi/bits.js";
import { EVENT_PAGE, SHADOW_CODES } from "../../abi/shadow.js";
import { PFN_NO_SLOT, SPTE_LEGACY } from "../../abi/spte.js";
import type { EventRecord } from "../../core/records/mmu.js";
import { ACC_ALL } from "../../role/index.js";
import { mmioGenerationOf } from "../../spte/index.js";

interface PageFields {
  readonly mmu_valid_gen: number;
  readonly gfn: bigint;
  /** In this project's layout. */
  readonly role: number;
  readonly root_count: number;
  readonly unsync: number;
}

/** One event; field names are the tracepoints'. `sptep` is the host-physical address of the SPTE. */
export type MmuTraceEvent =
  | { readonly ev: "kvm_mmu_pagetable_walk"; readonly addr: bigint; readonly pferr: number }
  | { readonly ev: "kvm_mmu_paging_element"; readonly pte: bigint; readonly level: number }
  | { readonly ev: "kvm_mmu_set_accessed_bit" | "kvm_mmu_set_dirty_bit"; readonly gpa: bigint }
  | { readonly ev: "kvm_mmu_walker_error"; readonly pferr: number }
  | ({ readonly ev: "kvm_mmu_get_page"; readonly created: number } & PageFields)
  | ({ readonly ev: "kvm_mmu_sync_page" | "kvm_mmu_unsync_page" | "kvm_mmu_prepare_zap_page" } & PageFields)
  | {
      readonly ev: "mark_mmio_spte";
      readonly sptep: bigint;
      readonly gfn: bigint;
      readonly access: number;
      readonly gen: number;
    }
  | { readonly ev: "handle_mmio_page_fault"; readonly addr: bigint; readonly gfn: bigint; readonly access: number }
  | {
      readonly ev: "fast_page_fault";
      readonly vcpu_id: number;
      readonly cr2_or_gpa: bigint;
      readonly error_code: bigint;
      readonly sptep: bigint;
      readonly old_spte: bigint;
      readonly new_spte: bigint;
      readonly ret: number;
    }
  | { readonly ev: "kvm_mmu_zap_all_fast"; readonly mmu_valid_gen: number; readonly mmu_used_pages: number }
  | { readonly ev: "check_mmio_spte"; readonly kvm_gen: number; readonly spte_gen: number; readonly spte: bigint }
  | {
      readonly ev: "kvm_mmu_set_spte";
      readonly gfn: bigint;
      readonly spte: bigint;
      readonly sptep: bigint;
      readonly level: number;
      readonly r: number;
      readonly x: number;
      readonly u: number;
    }
  | { readonly ev: "kvm_mmu_spte_requested"; readonly gfn: bigint; readonly pfn: bigint; readonly level: number }
  | {
      readonly ev: "kvm_tdp_mmu_spte_changed";
      readonly as_id: number;
      readonly gfn: bigint;
      readonly level: number;
      readonly old_spte: bigint;
      readonly new_spte: bigint;
    }
  | {
      readonly ev: "kvm_mmu_split_huge_page";
      readonly gfn: bigint;
      readonly spte: bigint;
      readonly level: number;
      readonly errno: number;
    }
  /** No tracepoint: so many events of the operation found no room in the buffer, as a ring buffer says it. */
  | { readonly ev: "lost_events"; readonly count: number };

const PAGE_EVENTS = {
  [SHADOW_CODES.EV_SYNC_PAGE]: "kvm_mmu_sync_page",
  [SHADOW_CODES.EV_UNSYNC_PAGE]: "kvm_mmu_unsync_page",
  [SHADOW_CODES.EV_PREPARE_ZAP]: "kvm_mmu_prepare_zap_page",
} as const;

/** Reads of the VM's masks that events need. */
export interface EventMasks {
  readonly nx: bigint;
  readonly x: bigint;
  readonly user: bigint;
  readonly present: bigint;
}

const GENERATION = fieldOf(EVENT_PAGE, "GENERATION");
const UNSYNC = flagOf(EVENT_PAGE, "UNSYNC");
const CREATED = flagOf(EVENT_PAGE, "CREATED");
const PRESENT = bitOf(SPTE_LEGACY, "P");

/** What events of a fault need to know besides their record. */
export interface FaultInfo {
  readonly vcpuId: number;
  /** Bits 63:32 of the error code, where the kernel traces them. */
  readonly high: bigint;
  /** The kernel has RET_PF_WRITE_PROTECTED, and the results behind it are one more. */
  readonly writeProtected: boolean;
}

/** A RET_PF code of this project as the kernel's enumeration numbers it. */
function resultNumber(code: number, writeProtected: boolean): number {
  return writeProtected && code >= SHADOW_CODES.RET_PF_INVALID ? code + 1 : code;
}

/** What a record says. Throws RangeError for a type that is none. */
export function decodeEvent(event: EventRecord, masks: EventMasks, fault: FaultInfo): MmuTraceEvent {
  const { type, a, b, c, x, y, z } = event;
  const page = (): PageFields => ({
    mmu_valid_gen: c >>> GENERATION.low,
    gfn: x,
    role: a,
    root_count: b,
    unsync: (c & UNSYNC) === 0 ? 0 : 1,
  });
  switch (type) {
    case SHADOW_CODES.EV_PAGETABLE_WALK:
      return { ev: "kvm_mmu_pagetable_walk", addr: x, pferr: a };
    case SHADOW_CODES.EV_PAGING_ELEMENT:
      return { ev: "kvm_mmu_paging_element", pte: x, level: a };
    case SHADOW_CODES.EV_SET_ACCESSED:
      return { ev: "kvm_mmu_set_accessed_bit", gpa: x };
    case SHADOW_CODES.EV_SET_DIRTY:
      return { ev: "kvm_mmu_set_dirty_bit", gpa: x };
    case SHADOW_CODES.EV_WALKER_ERROR:
      return { ev: "kvm_mmu_walker_error", pferr: a };
    case SHADOW_CODES.EV_GET_PAGE:
      return { ev: "kvm_mmu_get_page", ...page(), created: (c & CREATED) === 0 ? 0 : 1 };
    case SHADOW_CODES.EV_SYNC_PAGE:
    case SHADOW_CODES.EV_UNSYNC_PAGE:
    case SHADOW_CODES.EV_PREPARE_ZAP:
      return { ev: PAGE_EVENTS[type], ...page() };
    case SHADOW_CODES.EV_MARK_MMIO:
      return { ev: "mark_mmio_spte", sptep: z, gfn: x, access: Number(y) & ACC_ALL, gen: mmioGenerationOf(y) };
    case SHADOW_CODES.EV_HANDLE_MMIO:
      return { ev: "handle_mmio_page_fault", addr: x, gfn: y, access: a };
    case SHADOW_CODES.EV_FAST_PAGE_FAULT:
      return {
        ev: "fast_page_fault",
        vcpu_id: fault.vcpuId,
        cr2_or_gpa: x,
        error_code: BigInt(a) | (fault.writeProtected ? fault.high : 0n),
        sptep: (BigInt(b >>> 8) << 32n) | BigInt(c),
        old_spte: y,
        new_spte: z,
        ret: resultNumber(b & 0xff, fault.writeProtected),
      };
    case SHADOW_CODES.EV_ZAP_ALL_FAST:
      return { ev: "kvm_mmu_zap_all_fast", mmu_valid_gen: b, mmu_used_pages: c };
    case SHADOW_CODES.EV_CHECK_MMIO:
      return { ev: "check_mmio_spte", kvm_gen: a, spte_gen: b, spte: x };
    case SHADOW_CODES.EV_SET_SPTE:
      return {
        ev: "kvm_mmu_set_spte",
        gfn: x,
        spte: y,
        sptep: z,
        level: a,
        r: masks.present !== 0n || (y & PRESENT) !== 0n ? 1 : 0,
        x: (y & (masks.x | masks.nx)) === masks.x ? 1 : 0,
        u: (y & masks.user) !== 0n ? 1 : 0,
      };
    case SHADOW_CODES.EV_SPTE_REQUESTED:
      return {
        ev: "kvm_mmu_spte_requested",
        gfn: x,
        pfn: y === PFN_NO_SLOT ? PFN_NO_SLOT : y >> 12n,
        level: a,
      };
    case SHADOW_CODES.EV_TDP_CHANGED:
      return { ev: "kvm_tdp_mmu_spte_changed", as_id: b, gfn: x, level: a, old_spte: y, new_spte: z };
    case SHADOW_CODES.EV_SPLIT_HUGE:
      return { ev: "kvm_mmu_split_huge_page", gfn: x, spte: y, level: a, errno: b | 0 };
    default:
      throw new RangeError(`unknown event type ${type}`);
  }
}
