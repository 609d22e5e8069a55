/** What a virtual machine is made of. */
import { ConfigError } from "../errors.js";
import { tdpLevel } from "../role/index.js";
import type { FormatLimits } from "./context.js";
import type { EncryptionHooks } from "./memory-cache.js";

/** KVM's SPTE masks, without `shadow_` and `_mask`. */
export interface VmMasks {
  readonly user: bigint;
  readonly accessed: bigint;
  readonly dirty: bigint;
  readonly nx: bigint;
  readonly x: bigint;
  readonly present: bigint;
  readonly me: bigint;
  readonly meValue: bigint;
  readonly memtype: bigint;
  readonly accTrack: bigint;
  readonly hostWritable: bigint;
  readonly mmuWritable: bigint;
  readonly mmio: bigint;
  readonly mmioValue: bigint;
  readonly mmioAccess: bigint;
  readonly nonpresentOrRsvd: bigint;
  readonly lowerGfn: bigint;
}

/** What the host has behind a page: page frame number, whether it may be written, and at which level it is mapped. */
export interface HostPage {
  readonly pfn: bigint;
  readonly writable: boolean;
  /** 1: 4 KiB, 2: 2 MiB, 3: 1 GiB. */
  readonly level: number;
}

/** The host's memory management. Its calls may run into the VM's own notifier methods. */
export interface HostMemory {
  /** Finds or makes the page for a guest access. */
  pin(hva: bigint, write: boolean): HostPage;
  /** The page if it is there now, without doing anything for it. */
  peek(hva: bigint): HostPage | undefined;
}

export interface VirtualMachineConfig {
  readonly masks: VmMasks;
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
  /** Host MAXPHYADDR less what encryption takes, 32 to 52. Default 52. */
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
  /** Records of the event buffer; 0 turns events off. Default 0. */
  readonly eventCapacity?: number;
  /**
   * For showing a historical mistake: role bits that a wanted direct root role has and stored pages drop
   * (cr4_pae was one), so that no cached root matches. Default 0.
   */
  readonly staleDirectRoleBits?: number;
}

/** Two-dimensional paging of a VM. */
export interface TdpConfig {
  readonly format: "npt" | "ept";
  readonly mmu: "classic" | "tdp";
  /** Levels of its tables, 3 to 5. */
  readonly level: number;
  /** SPTEs have accessed and dirty bits. */
  readonly adBits: boolean;
}

/** The checked form of what decides about formats. Throws ConfigError. */
export function limitsOf(config: VirtualMachineConfig): FormatLimits {
  const hostPhysicalBits = config.hostPhysicalBits ?? 52;
  const guestPhysicalBits = config.guestPhysicalBits ?? hostPhysicalBits;
  for (const [name, value] of Object.entries({ hostPhysicalBits, guestPhysicalBits })) {
    if (!Number.isInteger(value) || value < 32 || value > 52) {
      throw new ConfigError(`${name} is ${value}, expected 32 to 52`);
    }
  }
  const hostPage1g = config.hostPage1g ?? true;
  const shadow = (config.paging ?? "shadow") === "shadow";
  return {
    hostPhysicalBits,
    guestPhysicalBits,
    hostPage1g,
    // Hardware walks a guest's tables by the host's features, so software does the same (guest_can_use_gbpages).
    guestPage1g: shadow ? (config.guestPage1g ?? true) : hostPage1g,
    guestAmd: config.guestAmd ?? false,
    maxHugeLevel: config.maxHugeLevel ?? 3,
    encryptionMask: config.masks.me,
    encryptionValue: config.masks.meValue,
  };
}

/** Two-dimensional paging, undefined under shadow paging. Throws ConfigError. */
export function tdpOf(config: VirtualMachineConfig, limits: FormatLimits): TdpConfig | undefined {
  const { paging = "shadow", masks, tdpMmu = false, pageModificationLog = false } = config;
  const adBits = masks.accessed !== 0n;
  if (pageModificationLog && (paging !== "ept" || !adBits)) {
    throw new ConfigError("pageModificationLog is set, expected only for EPT with accessed and dirty bits");
  }
  if (paging === "shadow") {
    if (tdpMmu) throw new ConfigError("tdpMmu is set, expected only for npt and ept");
    return undefined;
  }
  const levels = config.tdpLevels ?? { forced: 0, max: 4 };
  const level = tdpLevel({ ...levels, guestMaxPhysAddr: limits.guestPhysicalBits });
  if (paging === "ept" && level < 4) throw new ConfigError(`EPT has ${level} levels, expected 4 or 5`);
  if (level === 3 && masks.meValue !== 0n) {
    throw new ConfigError("a 3-level NPT root lies in low memory, expected no encryption mask");
  }
  return { format: paging, mmu: tdpMmu ? "tdp" : "classic", level, adBits };
}
