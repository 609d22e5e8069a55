/**
 * Must-be-zero bits of the entries, [bit 7][level - 1], one function a format.
 * Bit 7 of a level-1 entry is PAT, so both halves are the same there.
 */
import { EPT_IPAT, EPT_MEMTYPE, EPT_PS, PTE_G, PTE_PS } from "../abi/bits";
import {
  FEATURE_AMD_BIT8,
  FEATURE_KVM,
  FEATURE_LENIENT,
  FEATURE_PAGE_1G,
  FEATURE_PAGE_2M,
  FEATURE_PSE36,
  MODE_32BIT,
  MODE_PAE,
} from "../abi/codes";
import { Space } from "../abi/records";

/** Bits `low` to `high`, both included; none where low > high. */
// @ts-ignore: decorator
@inline export function bits(low: u32, high: u32): u64 {
  return low > high ? 0 : (0xffffffffffffffff >> (63 - (high - low))) << low;
}

function setReserved(space: Space, level: u32, small: u64, large: u64): void {
  const checked = ~space.encryption;
  space.setReserved(level - 1, small & checked);
  space.setReserved(level - 1 + 5, large & checked);
}

/** The must-be-zero bits of `entry` at `level`. */
// @ts-ignore: decorator
@inline export function reservedBits(space: Space, level: u32, entry: u64): u64 {
  return space.reserved(level - 1 + (((<u32>entry) & (<u32>PTE_PS)) != 0 ? 5 : 0));
}

/**
 * Fills the table for a legacy format (also NPT's).
 * `xd` is bit 63 where it is reserved (EFER.NXE=0), `pse` CR4.PSE; `encryption` bits are stripped before the check.
 */
export function setLegacyReserved(space: Space, mode: u32, pse: bool, xd: u64): void {
  const features = space.features;
  for (let level: u32 = 1; level <= 5; level++) setReserved(space, level, 0, 0);
  if (features & FEATURE_LENIENT) return;
  const width = space.maxphyaddr;
  if (mode == MODE_32BIT) {
    if (pse) setReserved(space, 2, 0, reserved4M(features, width));
    return;
  }
  if (mode == MODE_PAE) {
    // SDM "PAE Paging": bits 62:MAXPHYADDR and, with NXE=0, 63; PDPTEs "PDPTE Registers": 2:1, 8:5, 63:MAXPHYADDR.
    const high = bits(width, 62) | xd;
    setReserved(space, 1, high, high);
    setReserved(space, 2, high, high | bits(13, 20));
    const pdpte = bits(1, 2) | bits(5, 8) | bits(width, 63);
    setReserved(space, 3, pdpte, pdpte);
    return;
  }
  // SDM "4-Level Paging and 5-Level Paging": bits 51:MAXPHYADDR; 62:52 are ignored or the protection key.
  const no1G: u64 = features & FEATURE_PAGE_1G ? 0 : PTE_PS;
  const high = bits(width, 51) | xd;
  // APM "Long-Mode Page Translation": bit 8 of a PML4E and PML5E must be zero.
  const top = high | PTE_PS | (features & FEATURE_AMD_BIT8 ? PTE_G : 0);
  setReserved(space, 1, high, high);
  setReserved(space, 2, high, high | bits(13, 20));
  setReserved(space, 3, high | no1G, high | no1G | bits(13, 29));
  setReserved(space, 4, top, top);
  setReserved(space, 5, top, top);
}

/**
 * A PDE that maps 4 MiB (SDM "32-Bit Paging"): bit 21 always; address bits from MAXPHYADDR (at most 40) in 20:13;
 * all of 21:13 without PSE-36. KVM's walk always takes 36 bits (is_cpuid_PSE36).
 */
function reserved4M(features: u32, width: u32): u64 {
  if (features & FEATURE_KVM) return bits(17, 21);
  if (!(features & FEATURE_PSE36)) return bits(13, 21);
  return bits(min<u32>(width, 40) - 32 + 13, 21);
}

/** Fills the table for EPT (SDM "The Extended Page Table Mechanism", formats of the entries). */
export function setEptReserved(space: Space, mode: u32): void {
  const features = space.features;
  const high = bits(space.maxphyaddr, 51);
  const table = high | EPT_MEMTYPE | EPT_IPAT;
  const no2M: u64 = features & FEATURE_PAGE_2M ? 0 : EPT_PS;
  const no1G: u64 = features & FEATURE_PAGE_1G ? 0 : EPT_PS;
  setReserved(space, 1, high, high);
  setReserved(space, 2, table, high | no2M | bits(12, 20));
  setReserved(space, 3, table, high | no1G | bits(12, 29));
  setReserved(space, 4, table | EPT_PS, table | EPT_PS);
  setReserved(space, 5, table | EPT_PS, table | EPT_PS);
}
