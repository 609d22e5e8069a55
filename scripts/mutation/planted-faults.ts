/** Mistakes of meaning in faults handled in one piece or many at a time, and in what keeps look-ups short. */
import type { Planted } from "./planted.js";

const at = (path: string) => (rule: string, original: string, text: string) => ({ rule, path, original, text });
const quick = at("assembly/fault/quick-fault.ts");
const fault = at("assembly/fault/fault.ts");
const page = at("assembly/pages/page.ts");
const slot = at("assembly/pages/slot.ts");
const prefault = at("src/mmu/faults/prefault.ts");
const chains = at("src/mmu/pages/gfn-chains.ts");
const linear = at("src/core/linear-memory.ts");

export const PLANTED_FAULTS: readonly Planted[] = [
  quick("a clean page is mapped writable by a read", "} else if ((entry1 & PTE_D) == 0) access &= ~ACC_WRITE;", "}"),
  quick("CR0.WP=0 makes no rights of its own", "if ((access & ACC_WRITE) == 0) return RET_PF_INVALID;", ""),
  quick("a walk does not reset write flooding", "store<u32>(page2, 0, SP_FLOOD);", ""),
  quick("a tracked page is mapped writable", "      if (isTrackedInline(vm, memslot, gfn)) return RET_PF_INVALID;", ""),
  quick("a shadowed table is written unnoticed", "unsyncPages(vm, gfn, true, false);", "{}"),
  quick("neighbours are not mapped along", "prefetchFault(vcpu, sp, sptep);", ""),
  quick("a leaf is in no rmap", "addToRmap(vm, memslot, sptep, gfn, 1);", ""),
  quick("another page's table is walked", "if (other != 0) return RET_PF_INVALID;", ""),
  quick(
    "read-only and logged slots are ordinary",
    "if (load<u32>(memslot, MEMSLOT_FLAGS) != 0) return RET_PF_INVALID;",
    "",
  ),
  quick("a page that is not there is mapped", "if ((host & usable) != usable) return RET_PF_INVALID;", ""),
  quick("the page limit is not kept", "|| !hasRoom(vm)) return", ") return"),
  quick("traced faults leave no events", "    load<u32>(vm, VM_EVENTS) |\n", ""),
  fault("a batch tells no error codes", "load<u32>(vcpu, VCPU_GW_ERROR) << 8 : 0;", "0 : 0;"),
  fault("a fault starts without descriptors", "if (load<u32>(vm, VM_DESC_COUNT) < FAULT_DESCS) return false;", ""),
  page(
    "growing buckets turns chains round",
    "    store<u32>(sp, <u32>oldest, SP_CHAIN);\n    oldest = sp;",
    "    chainAdd(vm, sp);",
  ),
  slot("a slot in the lower half is missed", "high = middle;", "high = middle - 1;"),
  prefault("a retried fault stays one", "code = faults.fault(half[0]!, half[1]!, errorCode);", ""),
  chains("buckets never grow", "if (pages <= this.buckets) return;", "return;"),
  linear("views of a shared memory stay short", "!this.#shared && this.#u32", "this.#u32"),
];
