/** How the configuration of a virtual machine is written into its VM record. */
import { bitOf, EPT, PTE, placed } from "../../abi/index.js";
import { EMPTY_BIT_63 } from "../../abi/spte.js";
import type { VmRecord } from "../../core/records/mmu.js";
import type { VirtualMachineConfig, VmMasks } from "../config/config.js";
import { hasBit63 } from "../config/formats.js";
import { rulesOf } from "../config/kernel.js";

/** Shadow tables outside the low zone lie at this host-physical address plus their linear address. */
const NORMAL_ZONE = 1n << 32n;
const UNLIMITED = 0x7fff_ffff;
/** EPT: write-back, whatever the guest's page-attribute table says (vmx_get_mt_mask without non-coherent DMA). */
const EPT_RAM_TYPE = placed(EPT, "MEMTYPE", 6n) | bitOf(EPT, "IPAT");

/** Fills the constant fields of a VM record; `zeroPage` is the host-physical address of a table without entries. */
export function writeMasks(vm: VmRecord, config: VirtualMachineConfig, masks: VmMasks, zeroPage: number): void {
  const direct = (config.paging ?? "shadow") !== "shadow";
  vm.hostWritable = masks.hostWritable;
  vm.mmuWritable = masks.mmuWritable;
  vm.nx = masks.nx;
  vm.x = masks.x;
  vm.user = masks.user;
  vm.accessed = masks.accessed;
  vm.dirty = masks.dirty;
  vm.mmioValue = masks.mmioValue;
  vm.mmioMask = masks.mmio;
  vm.mmioAccess = masks.mmioAccess;
  vm.present = masks.present;
  vm.memtype = masks.memtype;
  vm.memtypeValue = masks.memtype === 0n ? 0n : EPT_RAM_TYPE;
  vm.meValue = masks.meValue;
  vm.meMask = masks.me;
  vm.accTrack = masks.accTrack;
  vm.nonpresentOrRsvd = masks.nonpresentOrRsvd;
  vm.lowerGfn = masks.lowerGfn;
  vm.rules = rulesOf(config);
  vm.empty = hasBit63(config) ? EMPTY_BIT_63 : 0n;
  vm.normalZone = NORMAL_ZONE;
  // Present for the processor, but neither MMU-present nor MMIO: a table without entries stands behind it.
  vm.pdpteValue = BigInt(zeroPage) | bitOf(PTE, "P") | masks.meValue;
  vm.defaultPdpte = config.defaultPaePdpte ? 1 : 0;
  vm.mmioCaching = (config.mmioCaching ?? true) && masks.mmioValue !== 0n ? 1 : 0;
  vm.tdp = direct ? 1 : 0;
  vm.cpuDirtyLog = config.pageModificationLog ? 1 : 0;
  // Under shadow paging TLBs go by linear addresses.
  vm.rangedFlush = config.rangedFlush && direct ? 1 : 0;
  vm.nxHuge = config.nxHugePages ? 1 : 0;
  vm.maxHugeLevel = config.maxHugeLevel ?? 3;
  vm.max = UNLIMITED;
  vm.askHost = config.hostMemory === undefined ? 0 : 1;
}
