/** Writing a VM's masks and switches into its record: from then on one construction path serves every SPTE format. */
import type { LinearMemory } from "../core/linear-memory.js";
import { vmRecord } from "./records.js";
import type { VirtualMachineConfig } from "./vm-config.js";

/** Host-physical address of linear address 0 in the normal zone. */
export const NORMAL_ZONE = 1n << 32n;
/** EPT: write-back, whatever the guest's page-attribute table says (vmx_get_mt_mask without non-coherent DMA). */
const EPT_RAM_TYPE = (6n << 3n) | (1n << 6n);

/** `zeroPage` is the linear address of the table behind default PDPTEs, 0 without them. */
export function writeMasks(linear: LinearMemory, vm: number, config: VirtualMachineConfig, zeroPage: number): void {
  const { masks } = config;
  const set = (name: string, value: bigint) => vmRecord.set64(linear, vm, name, value);
  set("HOST_WRITABLE", masks.hostWritable);
  set("MMU_WRITABLE", masks.mmuWritable);
  set("NX", masks.nx);
  set("X", masks.x);
  set("USER", masks.user);
  set("ACCESSED", masks.accessed);
  set("DIRTY", masks.dirty);
  set("MMIO_VALUE", masks.mmioValue);
  set("MMIO_MASK", masks.mmio);
  set("MMIO_ACCESS", masks.mmioAccess);
  set("PRESENT", masks.present);
  set("MEMTYPE", masks.memtype);
  set("MEMTYPE_VALUE", masks.memtype === 0n ? 0n : EPT_RAM_TYPE);
  set("ME_VALUE", masks.meValue);
  set("ME_MASK", masks.me);
  set("ACC_TRACK", masks.accTrack);
  set("NONPRESENT_OR_RSVD", masks.nonpresentOrRsvd);
  set("LOWER_GFN", masks.lowerGfn);
  set("NORMAL_ZONE", NORMAL_ZONE);
  // Present for the processor, but neither MMU-present nor MMIO: a table without entries stands behind it.
  set("PDPTE_VALUE", BigInt(zeroPage) | 1n | masks.meValue);
  const set32 = (name: string, value: number) => vmRecord.set32(linear, vm, name, value);
  set32("DEFAULT_PDPTE", config.defaultPaePdpte ? 1 : 0);
  set32("MMIO_CACHING", (config.mmioCaching ?? true) && masks.mmioValue !== 0n ? 1 : 0);
  set32("CPU_DIRTY_LOG", config.pageModificationLog ? 1 : 0);
  set32("NX_HUGE", config.nxHugePages ? 1 : 0);
  set32("MAX_HUGE_LEVEL", config.maxHugeLevel ?? 3);
  set32("ASK_HOST", config.hostMemory === undefined ? 0 : 1);
}
