/**
 * The masks that let one construction path serve every SPTE format. KVM sets them once, for its
 * module; here they are a VM's. Names are the kernel's, without `shadow_` and `_mask`.
 */
import { bitOf } from "../abi/bits.js";
import { EPT } from "../abi/entries.js";
import { NONPRESENT_OR_RSVD_BITS, SPTE_EPT, SPTE_LEGACY } from "../abi/spte.js";
import { SPTE_6_1, type SpteLayout } from "../abi/spte-layout.js";
import { ConfigError } from "../errors.js";

/** "shadow" and "npt" share the legacy format and differ only in what the tables translate. */
export type SpteFormat = "shadow" | "npt" | "ept";

/** KVM's shadow_*_mask values. */
export interface SpteMasks {
  /** User right; read right in EPT, 0n in that of Linux 7.2. */
  readonly user: bigint;
  /** 0n without accessed bits. */
  readonly accessed: bigint;
  /** 0n without dirty bits. */
  readonly dirty: bigint;
  /** Set to forbid execution, 0n in EPT. */
  readonly nx: bigint;
  /** Set to allow execution, 0n in the legacy format. */
  readonly x: bigint;
  /** Set to allow execution by the user in EPT of Linux 7.2 and later. */
  readonly xUser?: bigint;
  /** Set in every present entry: no right where execute-only entries are supported. */
  readonly present: bigint;
  /** All bits that may be used for memory encryption. */
  readonly me: bigint;
  /** Encryption bits that are set in entries that map encrypted memory. */
  readonly meValue: bigint;
  /** Bits that hold the memory type, 0n if the format has none. */
  readonly memtype: bigint;
  /** Rights that access tracking takes away, 0n if it is not used. */
  readonly accTrack: bigint;
  readonly hostWritable: bigint;
  readonly mmuWritable: bigint;
  /** An entry is MMIO if `entry & mmio == mmioValue`; `mmioValue` is 0n where MMIO is not cached. */
  readonly mmio: bigint;
  readonly mmioValue: bigint;
  /** What an MMIO entry has set besides, where less is looked at to recognise one (Linux 5.8 to 5.12). */
  readonly mmioStored?: bigint;
  /** `mmioValue` 0n is a value, and MMIO is cached: a TDX guest. */
  readonly mmioZero?: true;
  /** Rights that an MMIO entry keeps. */
  readonly mmioAccess: bigint;
  /** Address bits that are set in every non-present entry with content, against L1TF. */
  readonly nonpresentOrRsvd: bigint;
  /** Address bits of an MMIO entry below `nonpresentOrRsvd`. */
  readonly lowerGfn: bigint;
  /** Physical-address bits that SPTEs do not reserve, 32 to 52. */
  readonly physBits: number;
}

/** What decides the masks of both formats. */
export interface MaskOptions {
  /** Host MAXPHYADDR as CPUID reports it, bits that encryption takes included; 32 to 52. */
  readonly physBits: number;
  /** MAXPHYADDR less the bits that encryption takes. Default `physBits`. */
  readonly addressBits?: number;
  /**
   * Physical-address bits of the L1 data cache where the processor has the L1TF bug, else absent
   * (boot_cpu_data.x86_cache_bits; below 47). Kernels whose layout says so take `physBits` where it is absent.
   */
  readonly l1tfCacheBits?: number;
  /** Bits that memory encryption may use, and those that encrypted memory has. Default none. */
  readonly encryption?: { readonly mask: bigint; readonly value: bigint };
  /** Whether MMIO accesses are cached in SPTEs. Default true. */
  readonly mmioCaching?: boolean;
  /** The kernel's layout, from `spteLayoutOfKernel`. Default that of Linux 6.1. */
  readonly layout?: SpteLayout;
}

/** What decides the masks of EPT. */
export interface EptMaskOptions extends MaskOptions {
  /** Accessed and dirty bits in EPT entries. Default true. */
  readonly accessedDirty?: boolean;
  /** Execute-only entries are supported. Default true. */
  readonly executeOnly?: boolean;
  /** Entries have bit 63 set, so that no access becomes a #VE (Linux 6.10 and later). Default as in `layout`. */
  readonly suppressVe?: boolean;
  /** The VM is a TDX guest. Default false. */
  readonly tdx?: boolean;
}

const ADDRESS_BITS = 52;
const PAGE_SHIFT = 12;

/** Hardware's bits, and those that no kernel has elsewhere. */
const legacy = (name: string): bigint => bitOf(SPTE_LEGACY, name);
const ept = (name: string): bigint => bitOf(SPTE_EPT, name);
const EPT_RWX = bitOf(EPT, "R") | bitOf(EPT, "W") | bitOf(EPT, "X");

/** Bits `low` to `high`, both included; 0n if there are none. */
export function bitRange(low: number, high: number): bigint {
  return high < low ? 0n : ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low);
}

function l1tfMasks(options: MaskOptions): Pick<SpteMasks, "nonpresentOrRsvd" | "lowerGfn"> {
  const { physBits, addressBits = physBits, layout = SPTE_6_1 } = options;
  const l1tfCacheBits = options.l1tfCacheBits ?? (layout.guard === "narrow" ? physBits : undefined);
  if (!Number.isInteger(physBits) || physBits < 32 || physBits > ADDRESS_BITS) {
    throw new ConfigError(`physBits is ${physBits}: expected 32 to 52`);
  }
  if (l1tfCacheBits === undefined || l1tfCacheBits >= ADDRESS_BITS - NONPRESENT_OR_RSVD_BITS) {
    return { nonpresentOrRsvd: 0n, lowerGfn: bitRange(PAGE_SHIFT, addressBits - 1) };
  }
  const low = l1tfCacheBits - NONPRESENT_OR_RSVD_BITS;
  return { nonpresentOrRsvd: bitRange(low, l1tfCacheBits - 1), lowerGfn: bitRange(PAGE_SHIFT, low - 1) };
}

function encryptionMasks({ encryption }: MaskOptions): Pick<SpteMasks, "me" | "meValue"> {
  const { mask: me, value: meValue } = encryption ?? { mask: 0n, value: 0n };
  if ((meValue & ~me) !== 0n) {
    throw new ConfigError(`encryption value 0x${meValue.toString(16)} is not within its mask 0x${me.toString(16)}`);
  }
  return { me, meValue };
}

/** What marks MMIO entries: the hardware's bits that make an access fault, and the layout's own. */
function mmioMarks(
  { mmioMark: { bits, alone } }: SpteLayout,
  mask: bigint,
  value: bigint,
): Pick<SpteMasks, "mmio" | "mmioValue" | "mmioStored"> {
  return alone ? { mmio: bits, mmioValue: bits, mmioStored: value } : { mmio: mask | bits, mmioValue: value | bits };
}

/**
 * Masks of shadow paging and NPT (kvm_mmu_reset_all_pte_masks).
 * @throws ConfigError for values out of range.
 */
export function legacyMasks(options: MaskOptions): SpteMasks {
  const { layout = SPTE_6_1 } = options;
  // A reserved address bit makes an MMIO access fault with RSVD=1; with 52 address bits there is none.
  const hasMmio = options.physBits < ADDRESS_BITS;
  const mmio = hasMmio ? legacy("MMIO_RSVD") | legacy("P") : layout.mmioAt52 ? legacy("MMIO_RSVD") : 0n;
  const marks = mmioMarks(layout, mmio, mmio);
  return {
    user: legacy("US"),
    accessed: legacy("A"),
    dirty: legacy("D"),
    nx: legacy("NX"),
    x: 0n,
    present: legacy("P"),
    ...encryptionMasks(options),
    memtype: 0n,
    accTrack: 0n,
    hostWritable: bitOf(layout.legacy, "HOST_WRITABLE"),
    mmuWritable: bitOf(layout.legacy, "MMU_WRITABLE"),
    ...marks,
    mmioValue: options.mmioCaching === false ? 0n : marks.mmioValue,
    mmioAccess: legacy("RW") | legacy("US"),
    ...l1tfMasks(options),
    physBits: options.physBits,
  };
}

/**
 * Masks of EPT (kvm_mmu_set_ept_masks).
 * @throws ConfigError for values out of range, and for a TDX guest of a kernel that has none.
 */
export function eptMasks(options: EptMaskOptions): SpteMasks {
  const { accessedDirty = true, executeOnly = true, tdx = false, layout = SPTE_6_1 } = options;
  const { suppressVe = layout.empty !== 0n } = options;
  if (tdx && !layout.tdx) throw new ConfigError(`kernel ${layout.era} has no TDX guests: expected 6.16 or later`);
  const sve = suppressVe ? ept("SVE") : 0n;
  const ad = accessedDirty || layout.softwareAd;
  const xUser = layout.ept.fields.some(({ name }) => name === "XU") ? bitOf(layout.ept, "XU") : 0n;
  // Writable but not readable: an EPT misconfiguration, which exits at once.
  const marks = mmioMarks(layout, EPT_RWX | sve, ept("W") | ept("X"));
  return {
    user: layout.userReads ? ept("R") : 0n,
    accessed: ad ? ept("A") : 0n,
    dirty: ad ? ept("D") : 0n,
    nx: 0n,
    x: ept("X"),
    ...(xUser !== 0n && { xUser }),
    present: (executeOnly || !layout.userReads ? 0n : ept("R")) | sve,
    ...encryptionMasks(options),
    memtype: ept("MEMTYPE") | ept("IPAT"),
    accTrack: EPT_RWX | xUser,
    hostWritable: bitOf(layout.ept, "HOST_WRITABLE"),
    mmuWritable: bitOf(layout.ept, "MMU_WRITABLE"),
    ...marks,
    mmioValue: options.mmioCaching === false || tdx ? 0n : marks.mmioValue,
    ...(tdx && options.mmioCaching !== false && { mmioZero: true as const }),
    mmioAccess: 0n,
    ...l1tfMasks(options),
    physBits: options.physBits,
  };
}

/** Bits that may mark an MMIO entry: not the generation's, nor bit 11 (SPTE_MMIO_ALLOWED_MASK). */
const MMIO_ALLOWED = bitOf(EPT, "SVE") | bitOf(EPT, "ADDRESS") | EPT_RWX;

/**
 * The masks with another mark of MMIO entries (kvm_mmu_set_mmio_spte_mask).
 * @param value what `entry & mask` equals in MMIO entries; 0n where MMIO is not cached.
 * @param layout the kernel's: bits that mark MMIO there in any case are added to both.
 * @throws ConfigError for a mark that other parts of an entry need.
 */
export function withMmioMark(masks: SpteMasks, mask: bigint, value: bigint, layout: SpteLayout = SPTE_6_1): SpteMasks {
  const hex = (bits: bigint) => `0x${bits.toString(16)}`;
  if ((mask & ~(MMIO_ALLOWED | layout.mmioMark.bits | (masks.xUser ?? 0n))) !== 0n) {
    throw new ConfigError(`MMIO mask ${hex(mask)}: expected bits 63, 51:12 and 2:0 only`);
  }
  if ((value & ~mask) !== 0n) throw new ConfigError(`MMIO value ${hex(value)} has bits outside the mask ${hex(mask)}`);
  const moved = masks.nonpresentOrRsvd << BigInt(NONPRESENT_OR_RSVD_BITS);
  if ((value & (masks.lowerGfn | moved)) !== 0n) {
    throw new ConfigError(`MMIO value ${hex(value)} lies in the entry's guest frame number`);
  }
  const marker = layout.marker?.value ?? 0n;
  if (value !== 0n && marker !== 0n && (marker & mask) === value) {
    throw new ConfigError(`MMIO value ${hex(value)} would also match the ${layout.marker!.word} entry ${hex(marker)}`);
  }
  return { ...masks, ...mmioMarks(layout, mask, value) };
}
