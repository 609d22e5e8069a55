/** Trace events in the vocabulary of the kernel's kvmmmu tracepoints, decoded from the records that the core leaves behind. */
import { fieldOf, flagOf } from "../../abi/bits.js";
import { EVENT_PAGE, SHADOW_CODES } from "../../abi/shadow.js";
import { PFN_NO_SLOT, SPTE_LEGACY } from "../../abi/spte.js";
import type { TakenEvent } from "../../core/mmu/event-ring.js";
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

/** The same as halves of 32 bits. */
export interface SplitMasks {
  /** Bit 0 says that an SPTE is present: there is no other mask for it. */
  readonly legacy: boolean;
  readonly nx: Half;
  readonly x: Half;
  readonly user: Half;
}

interface Half {
  readonly low: number;
  readonly high: number;
}

/** The masks as a decoder needs them. */
export function splitMasks({ nx, x, user, present }: EventMasks): SplitMasks {
  return { legacy: present === 0n, nx: halvesOf(nx), x: halvesOf(x), user: halvesOf(user) };
}

function halvesOf(value: bigint): Half {
  return { low: Number(BigInt.asUintN(32, value)) | 0, high: Number(value >> 32n) | 0 };
}

const GENERATION = fieldOf(EVENT_PAGE, "GENERATION");
const UNSYNC = flagOf(EVENT_PAGE, "UNSYNC");
const CREATED = flagOf(EVENT_PAGE, "CREATED");
const PRESENT = flagOf(SPTE_LEGACY, "P");

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
export function decodeEvent(event: TakenEvent, masks: SplitMasks, fault: FaultInfo): MmuTraceEvent {
  const { type } = event;
  switch (type) {
    case SHADOW_CODES.EV_PAGETABLE_WALK:
      return { ev: "kvm_mmu_pagetable_walk", addr: event.x, pferr: event.a };
    case SHADOW_CODES.EV_PAGING_ELEMENT:
      return { ev: "kvm_mmu_paging_element", pte: event.x, level: event.a };
    case SHADOW_CODES.EV_SET_ACCESSED:
      return { ev: "kvm_mmu_set_accessed_bit", gpa: event.x };
    case SHADOW_CODES.EV_SET_DIRTY:
      return { ev: "kvm_mmu_set_dirty_bit", gpa: event.x };
    case SHADOW_CODES.EV_WALKER_ERROR:
      return { ev: "kvm_mmu_walker_error", pferr: event.a };
    case SHADOW_CODES.EV_GET_PAGE:
      return {
        ev: "kvm_mmu_get_page",
        mmu_valid_gen: event.c >>> GENERATION.low,
        gfn: event.x,
        role: event.a,
        root_count: event.b,
        unsync: (event.c & UNSYNC) === 0 ? 0 : 1,
        created: (event.c & CREATED) === 0 ? 0 : 1,
      };
    case SHADOW_CODES.EV_SYNC_PAGE:
    case SHADOW_CODES.EV_UNSYNC_PAGE:
    case SHADOW_CODES.EV_PREPARE_ZAP:
      return {
        ev: PAGE_EVENTS[type],
        mmu_valid_gen: event.c >>> GENERATION.low,
        gfn: event.x,
        role: event.a,
        root_count: event.b,
        unsync: (event.c & UNSYNC) === 0 ? 0 : 1,
      };
    case SHADOW_CODES.EV_MARK_MMIO:
      return {
        ev: "mark_mmio_spte",
        sptep: event.z,
        gfn: event.x,
        access: event.yLow & ACC_ALL,
        gen: mmioGenerationOf(event.y),
      };
    case SHADOW_CODES.EV_HANDLE_MMIO:
      return { ev: "handle_mmio_page_fault", addr: event.x, gfn: event.y, access: event.a };
    case SHADOW_CODES.EV_FAST_PAGE_FAULT:
      return {
        ev: "fast_page_fault",
        vcpu_id: fault.vcpuId,
        cr2_or_gpa: event.x,
        error_code: BigInt(event.a) | (fault.writeProtected ? fault.high : 0n),
        sptep: (BigInt(event.b >>> 8) << 32n) | BigInt(event.c),
        old_spte: event.y,
        new_spte: event.z,
        ret: resultNumber(event.b & 0xff, fault.writeProtected),
      };
    case SHADOW_CODES.EV_ZAP_ALL_FAST:
      return { ev: "kvm_mmu_zap_all_fast", mmu_valid_gen: event.b, mmu_used_pages: event.c };
    case SHADOW_CODES.EV_CHECK_MMIO:
      return { ev: "check_mmio_spte", kvm_gen: event.a, spte_gen: event.b, spte: event.x };
    case SHADOW_CODES.EV_SET_SPTE:
      return {
        ev: "kvm_mmu_set_spte",
        gfn: event.x,
        spte: event.y,
        sptep: event.z,
        level: event.a,
        r: masks.legacy && (event.yLow & PRESENT) === 0 ? 0 : 1,
        x: mayExecute(event.yLow, event.yHigh, masks) ? 1 : 0,
        u: (event.yLow & masks.user.low) !== 0 || (event.yHigh & masks.user.high) !== 0 ? 1 : 0,
      };
    case SHADOW_CODES.EV_SPTE_REQUESTED:
      return {
        ev: "kvm_mmu_spte_requested",
        gfn: event.x,
        pfn: pfnOf(event.y),
        level: event.a,
      };
    case SHADOW_CODES.EV_TDP_CHANGED:
      return {
        ev: "kvm_tdp_mmu_spte_changed",
        as_id: event.b,
        gfn: event.x,
        level: event.a,
        old_spte: event.y,
        new_spte: event.z,
      };
    case SHADOW_CODES.EV_SPLIT_HUGE:
      return { ev: "kvm_mmu_split_huge_page", gfn: event.x, spte: event.y, level: event.a, errno: event.b | 0 };
    default:
      throw new RangeError(`unknown event type ${type}`);
  }
}

/** The bit that allows it is set, and that which forbids it is not. */
function mayExecute(low: number, high: number, { x, nx }: SplitMasks): boolean {
  return (low & (x.low | nx.low)) === x.low && (high & (x.high | nx.high)) === x.high;
}

function pfnOf(pa: bigint): bigint {
  return pa === PFN_NO_SLOT ? PFN_NO_SLOT : pa >> 12n;
}
