/** Operands that no event of an exit has, recovered from what the events after it show. */
import { bitOf, fieldOf, valueIn } from "../../abi/bits.js";
import { PTE } from "../../abi/entries.js";
import { MMU_ROOT } from "../../abi/kvm.js";
import { CR3 } from "../../abi/registers.js";
import type { RecordedEvent } from "../format/events.js";
import type { GuestStep } from "../format/recording.js";
import { HANDLER_RETURNS } from "./fault-result.js";

const ENTRY_ADDRESS = bitOf(PTE, "ADDRESS");
const PCID = bitOf(CR3, "PCID");

/** The gpa of an EPT misconfiguration; `rest` has the events up to the next guest entry. */
export function misconfiguredAddress(step: GuestStep, rest: readonly RecordedEvent[]): bigint {
  const handled = rest.findIndex((event) => HANDLER_RETURNS.has(event.ev) || event.ev === "page_fault_ret");
  const own = rest.slice(0, handled === -1 ? undefined : handled);
  const walk = own.find((event) => event.ev === "kvm_mmu_pagetable_walk");
  if (walk?.ev === "kvm_mmu_pagetable_walk" && HANDLER_RETURNS.has(rest[handled]?.ev ?? "")) return walk.addr;
  for (const event of rest) {
    if (event.ev === "handle_mmio_page_fault") return event.addr !== 0n ? event.addr : event.gfn << 12n;
    if (event.ev === "kvm_mmu_spte_requested") return event.gfn << 12n;
    if (event.ev === "kvm_mmio") return event.gpa;
  }
  return walkedAddress(step, rest) ?? step.mmio[0] ?? step.nested?.address ?? step.gva;
}

/** The page that the walk of the step's own address leads to: the emulator fetches what it could not run. */
function walkedAddress(step: GuestStep, rest: readonly RecordedEvent[]): bigint | undefined {
  const start = rest.findIndex((event) => event.ev === "kvm_mmu_pagetable_walk");
  const walk = rest[start];
  if (walk?.ev !== "kvm_mmu_pagetable_walk" || walk.addr >> 12n !== step.gva >> 12n) return undefined;
  let leaf: bigint | undefined;
  for (const event of rest.slice(start + 1)) {
    if (event.ev !== "kvm_mmu_paging_element") break;
    if (event.level === 1) leaf = event.pte & ENTRY_ADDRESS;
  }
  return leaf === undefined ? undefined : leaf | (walk.addr & 0xfffn);
}

/**
 * The PCID of an INVPCID of type 1: that of the roots that were freed or synchronised because of it. `previous` are the
 * pgds of the previous roots before it; undefined where nothing shows the PCID.
 */
export function invalidatedPcid(
  rest: readonly RecordedEvent[],
  previous: readonly { readonly pgd: bigint }[],
  cr3: bigint,
): number | undefined {
  const freed = rest.find((event) => event.ev === "free_roots");
  if (freed?.ev === "free_roots") {
    // KVM_MMU_ROOT_CURRENT is bit 0, the previous roots follow.
    const root = previous.find((_, index) => ((freed.roots >> BigInt(index + 1)) & 1n) !== 0n);
    if (root !== undefined) return Number(root.pgd & PCID);
  }
  return rest.some((event) => event.ev === "sync_roots") ? Number(cr3 & PCID) : undefined;
}

/**
 * Address and PCID of an INVPCID of type 0 where no event has the PCID (Linux 6.12): it is that of the roots that were looked
 * at. undefined where none was.
 */
export function invalidatedAddress(
  rest: readonly RecordedEvent[],
  previous: readonly { readonly pgd: bigint }[],
  cr3: bigint,
): { readonly address: bigint; readonly pcid: number } | undefined {
  const event = rest.find((later) => later.ev === "invalidate_addr");
  if (event?.ev !== "invalidate_addr") return undefined;
  const older = valueIn(fieldOf(MMU_ROOT, "PREVIOUS"), event.roots);
  const root = previous.find((_, index) => (older & (1n << BigInt(index))) !== 0n);
  const pgd = (event.roots & bitOf(MMU_ROOT, "CURRENT")) !== 0n ? cr3 : root?.pgd;
  return pgd === undefined ? undefined : { address: event.addr, pcid: Number(pgd & PCID) };
}
