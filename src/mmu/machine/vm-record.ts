/** How the configuration of a virtual machine is written into its VM record. */
import type { LinearMemory } from "../../core/linear-memory.js";
import type { VirtualMachineConfig, VmMasks } from "../config/config.js";
import { vmRecord } from "../memory/records.js";

/** Shadow tables outside the low zone lie at this host-physical address plus their linear address. */
const NORMAL_ZONE = 1n << 32n;
const UNLIMITED = 0x7fff_ffff;
/** EPT: write-back, whatever the guest's page-attribute table says (vmx_get_mt_mask without non-coherent DMA). */
const EPT_RAM_TYPE = (6n << 3n) | (1n << 6n);

/** Fills the constant fields of a VM record. */
export function writeMasks(
  linear: LinearMemory,
  pointer: number,
  config: VirtualMachineConfig,
  masks: VmMasks,
  zeroPage: number,
): void {
  const set = (name: string, value: bigint) => vmRecord.set64(linear, pointer, name, value);
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
  const set32 = (name: string, value: number) => vmRecord.set32(linear, pointer, name, value);
  set32("DEFAULT_PDPTE", config.defaultPaePdpte ? 1 : 0);
  set32("MMIO_CACHING", (config.mmioCaching ?? true) && masks.mmioValue !== 0n ? 1 : 0);
  set32("TDP", (config.paging ?? "shadow") === "shadow" ? 0 : 1);
  set32("CPU_DIRTY_LOG", config.pageModificationLog ? 1 : 0);
  // Under shadow paging TLBs go by linear addresses.
  set32("RANGED_FLUSH", config.rangedFlush && (config.paging ?? "shadow") !== "shadow" ? 1 : 0);
  set32("NX_HUGE", config.nxHugePages ? 1 : 0);
  set32("MAX_HUGE_LEVEL", config.maxHugeLevel ?? 3);
  set32("MAX", UNLIMITED);
  set32("ASK_HOST", config.hostMemory === undefined ? 0 : 1);
}
