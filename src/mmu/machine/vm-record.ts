/** What a virtual machine is made of, and how that is written into its VM record. */
import type { LinearMemory } from "../../core/linear-memory.js";
import type { SpteMasks } from "../../spte/index.js";
import type { AliasConfig } from "../config/aliases.js";
import type { HostMemory } from "../memory/host-pages.js";
import { vmRecord } from "../memory/records.js";
import type { EncryptionHooks } from "../pages/memory-cache.js";

/** The SPTE masks of a VM; its physical bits are a setting of their own (`hostPhysicalBits`). */
export type VmMasks = Omit<SpteMasks, "physBits">;

export interface VirtualMachineConfig {
  /** Default: those of the format for the host's physical bits; for EPT with accessed and dirty bits and execute-only. */
  readonly masks?: VmMasks;
  /** How guests' memory is virtualised: shadow paging, nested page tables or extended ones. Default "shadow". */
  readonly paging?: "shadow" | "npt" | "ept";
  /** Direct roots are the TDP MMU's, not the classic direct MMU's. Default false. */
  readonly tdpMmu?: boolean;
  /** Levels of NPT or EPT: `forced` by the host's own paging (0: not), and the processor's most. Default 0 and 4. */
  readonly tdpLevels?: { readonly forced: 0 | 3 | 4 | 5; readonly max: 3 | 4 | 5 };
  /** The processor logs dirty pages (PML); EPT with accessed and dirty bits only. Default false. */
  readonly pageModificationLog?: boolean;
  /** Decides what a switch to and from a nested guest flushes. Default "svm". */
  readonly virtualization?: "svm" | "vmx";
  /** Host MAXPHYADDR less what encryption takes, 32 to 52; at 52 no bit is left for MMIO SPTEs. Default 46. */
  readonly hostPhysicalBits?: number;
  /** MAXPHYADDR of the guest's CPUID. Default the host's. */
  readonly guestPhysicalBits?: number;
  /** The host has 1 GiB pages; with NPT and EPT its guests can then use them too. Default true. */
  readonly hostPage1g?: boolean;
  /** The guest's CPUID has 1 GiB pages. Default true. */
  readonly guestPage1g?: boolean;
  /** The guest's CPUID is AMD's: bit 8 of upper entries is reserved. Default false. */
  readonly guestAmd?: boolean;
  /**
   * PDPTEs of an L1 hypervisor's PAE NPT: `live`, a shadowed and write-protected table, as the processor reads them in each
   * walk (APM, "Nested Paging"); or `loaded` with the root, as Linux 6.1 does, and missing L1's writes until then. Default "live".
   */
  readonly nestedPdptes?: "live" | "loaded";
  /** Bit 5 of a PAE PDPTE may be set: for processors that set Accessed there. Default false. */
  readonly pdpteAccessed?: boolean;
  /** Largest level of a leaf, 1 to 3. Default 3. */
  readonly maxHugeLevel?: number;
  /** Huge pages are not executable (the NX-huge-page mitigation). Default false. */
  readonly nxHugePages?: boolean;
  /** KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: bit 0 manual protect, bit 1 initially set. Default 0. */
  readonly manualDirtyLog?: number;
  /** Least level of a root: 3, or 4 or 5 for a host whose shadow tables are always that deep. Default 3. */
  readonly minimumRootLevel?: 3 | 4 | 5;
  /** Unused PDPTEs of a pae_root hold a present entry to an empty page instead of 0. Default false. */
  readonly defaultPaePdpte?: boolean;
  /** MMIO SPTEs are made. Default true. */
  readonly mmioCaching?: boolean;
  /** Default: host page = RAM page, everything writable, mapped by pages of 4 KiB. */
  readonly hostMemory?: HostMemory;
  readonly encryption?: EncryptionHooks;
  /** Guest-physical address bits that are attributes. Default none. */
  readonly aliases?: AliasConfig;
  /**
   * TLBs can be flushed by ranges of guest-physical addresses, so that `takeFlushes` lists ranges where that is enough
   * (the kernel's kvm_available_flush_tlb_with_range). Default false: every flush is of everything, as it always is under
   * shadow paging and while a nested guest's tables are shadowed.
   */
  readonly rangedFlush?: boolean;
  /**
   * Records of the event buffer (48 bytes each), which is emptied after each operation; 0 turns events off. A fault makes
   * at most about 50, an operation on a range one or two for each SPTE and page in it, a fast zap of the TDP MMU one for
   * each of the 512 entries of every table; what finds no room is counted as lost. Default 0.
   */
  readonly eventCapacity?: number;
  /**
   * For showing a historical mistake: role bits that a wanted direct root role has and stored pages drop
   * (cr4_pae was one), so that no cached root matches. Default 0.
   */
  readonly staleDirectRoleBits?: number;
}

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
