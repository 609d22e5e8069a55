/** Deriving what a walk needs from registers, features and MAXPHYADDR. Runs when one of them changes, never in a walk. */
import {
  CR0_PG,
  CR3_LAM_U48,
  CR3_LAM_U57,
  CR3_PCID,
  CR4_LAM_SUP,
  CR4_LA57,
  CR4_PAE,
  CR4_PCIDE,
  CR4_PKE,
  CR4_PKS,
  CR4_PSE,
  CR4_SMEP,
  EFER_LMA,
  EFER_NXE,
  EPTP_WALK_LENGTH,
  EPTP_WALK_LENGTH_SHIFT,
  PFERR_I,
  PTE32_ADDRESS,
  PTE_ADDRESS,
  PTE_XD,
} from "../../abi/bits";
import {
  FEATURE_KVM,
  FEATURE_LENIENT,
  FEATURE_PAGE_1G,
  FEATURE_PAGE_2M,
  KIND_EPT,
  KIND_GUEST,
  MODE_32BIT,
  MODE_4LEVEL,
  MODE_5LEVEL,
  MODE_EPT4,
  MODE_EPT5,
  MODE_NONE,
  MODE_PAE,
} from "../../abi/codes";
import {
  SPACE_ADDRESS_MASK,
  SPACE_CR0,
  SPACE_CR3,
  SPACE_CR4,
  SPACE_EFER,
  SPACE_ENCRYPTION,
  SPACE_FEATURES,
  SPACE_FETCH_CODE,
  SPACE_KEYS_SUPERVISOR,
  SPACE_KEYS_USER,
  SPACE_KIND,
  SPACE_LAM_SUPERVISOR,
  SPACE_LAM_USER,
  SPACE_LARGE_LEVELS,
  SPACE_MODE,
  SPACE_PCID,
  SPACE_PKRS,
  SPACE_PKRU,
  SPACE_ROOT,
  SPACE_ROOT_LEVEL,
  SPACE_TABLES_BASE,
  SPACE_TABLES_SIZE,
  SPACE_WIDTH,
  SPACE_XD_MASK,
} from "../../abi/layout";
import { setPermissions } from "../permissions";
import { setFast, setPlans, setTables } from "../plan";
import { setEptReserved, setLegacyReserved } from "../reserved";
import { clearLines } from "../tlb/tlb-lines";

/** Fills the derived fields of `space`, whose registers the processor takes: the host has checked that. */
export function configure(space: usize): void {
  if (load<u32>(space, SPACE_KIND) == KIND_EPT) configureEpt(space);
  else configureLegacy(space, legacyMode(space));
}

/** SDM "Paging Modes and Control Bits". */
function legacyMode(space: usize): u32 {
  const cr4 = load<u32>(space, SPACE_CR4);
  if (!(load<u32>(space, SPACE_CR0) & CR0_PG)) return MODE_NONE;
  if (!(cr4 & CR4_PAE)) return MODE_32BIT;
  if (!(load<u32>(space, SPACE_EFER) & EFER_LMA)) return MODE_PAE;
  return cr4 & CR4_LA57 ? MODE_5LEVEL : MODE_4LEVEL;
}

function configureLegacy(space: usize, mode: u32): void {
  const features = load<u32>(space, SPACE_FEATURES);
  const cr4 = load<u32>(space, SPACE_CR4);
  const lenient = (features & FEATURE_LENIENT) != 0;
  const nxe = (load<u32>(space, SPACE_EFER) & EFER_NXE) != 0 || lenient;
  const addressMask = (mode == MODE_32BIT ? <u64>PTE32_ADDRESS : PTE_ADDRESS) & ~load<u64>(space, SPACE_ENCRYPTION);
  const pse = (cr4 & CR4_PSE) != 0;

  store<u32>(space, mode, SPACE_MODE);
  store<u32>(space, rootLevelOf(mode), SPACE_ROOT_LEVEL);
  store<u32>(space, largeLevelsOf(mode, pse, features), SPACE_LARGE_LEVELS);
  store<u64>(space, rootOf(load<u64>(space, SPACE_CR3), mode, addressMask), SPACE_ROOT);
  store<u64>(space, addressMask, SPACE_ADDRESS_MASK);
  store<u64>(space, nxe ? PTE_XD : 0, SPACE_XD_MASK);
  store<u32>(space, widthOf(mode), SPACE_WIDTH);
  store<u32>(space, fetchCode(space, mode), SPACE_FETCH_CODE);
  setKeys(space, mode);
  setMasking(space, mode);
  setLegacyReserved(space, mode, pse, nxe ? 0 : PTE_XD);
  setPermissions(space, nxe);
  setFast(space, mode);
  setTables(space);
  setPlans(space, mode);
  setPcid(space);
  clearLines(space);
}

function configureEpt(space: usize): void {
  const eptp = load<u64>(space, SPACE_CR3);
  const level = <u32>((eptp & EPTP_WALK_LENGTH) >> EPTP_WALK_LENGTH_SHIFT) + 1;
  const mode = level == 5 ? MODE_EPT5 : MODE_EPT4;
  const features = load<u32>(space, SPACE_FEATURES);
  store<u32>(space, mode, SPACE_MODE);
  store<u32>(space, level, SPACE_ROOT_LEVEL);
  const large: u32 = (features & FEATURE_PAGE_2M ? 1 << 2 : 0) | (features & FEATURE_PAGE_1G ? 1 << 3 : 0);
  store<u32>(space, large, SPACE_LARGE_LEVELS);
  store<u64>(space, eptp & PTE_ADDRESS, SPACE_ROOT);
  store<u64>(space, PTE_ADDRESS, SPACE_ADDRESS_MASK);
  store<u32>(space, widthOf(mode), SPACE_WIDTH);
  setEptReserved(space, mode);
  setPermissions(space, true);
}

function rootLevelOf(mode: u32): u32 {
  if (mode == MODE_NONE) return 0;
  if (mode == MODE_32BIT) return 2;
  if (mode == MODE_PAE) return 3;
  return mode == MODE_4LEVEL ? 4 : 5;
}

/** Where PS maps a page: level 2 (CR4.PSE in 32-bit paging; always with 8-byte entries), level 3 in long mode. */
function largeLevelsOf(mode: u32, pse: bool, features: u32): u32 {
  if (mode == MODE_NONE) return 0;
  if (mode == MODE_32BIT) return pse ? 1 << 2 : 0;
  const level3: u32 = mode >= MODE_4LEVEL && (features & (FEATURE_PAGE_1G | FEATURE_LENIENT)) != 0 ? 1 << 3 : 0;
  return (1 << 2) | level3;
}

/** Another CR3 in the same mode: only the root follows. */
export function setRoot(space: usize, cr3: u64): void {
  store<u64>(space, cr3, SPACE_CR3);
  store<u64>(space, rootOf(cr3, load<u32>(space, SPACE_MODE), load<u64>(space, SPACE_ADDRESS_MASK)), SPACE_ROOT);
  const base = load<u64>(space, SPACE_TABLES_BASE);
  const size = load<u64>(space, SPACE_TABLES_SIZE);
  setTables(space);
  // Plans of 32-bit paging tell the slot of the tables from others.
  const same = base == load<u64>(space, SPACE_TABLES_BASE) && size == load<u64>(space, SPACE_TABLES_SIZE);
  if (!same) setPlans(space, load<u32>(space, SPACE_MODE));
  setPcid(space);
  clearLines(space);
}

function setPcid(space: usize): void {
  const pcide = (load<u32>(space, SPACE_CR4) & CR4_PCIDE) != 0;
  store<u64>(space, pcide ? load<u64>(space, SPACE_CR3) & CR3_PCID : 0, SPACE_PCID);
}

/** CR3's address bits: 31:12 in 32-bit paging, 31:5 in PAE, MAXPHYADDR-1:12 in long mode. */
function rootOf(cr3: u64, mode: u32, addressMask: u64): u64 {
  if (mode == MODE_PAE) return cr3 & 0xffffffe0;
  return cr3 & addressMask & (mode == MODE_32BIT ? 0xffffffff : PTE_ADDRESS);
}

/** Bits of an address that tables translate. */
function widthOf(mode: u32): u32 {
  if (mode == MODE_4LEVEL || mode == MODE_EPT4) return 48;
  return mode == MODE_5LEVEL || mode == MODE_EPT5 ? 57 : 32;
}

/**
 * The fetch bit is reported with CR4.SMEP, and with EFER.NXE where entries have an XD bit (SDM "Page-Fault Exceptions").
 * KVM reports it for NXE in every mode. NPT reports by the host's NXE, in KVM's walk also by the host's SMEP.
 */
function fetchCode(space: usize, mode: u32): u32 {
  const kvm = (load<u32>(space, SPACE_FEATURES) & FEATURE_KVM) != 0;
  const guest = load<u32>(space, SPACE_KIND) == KIND_GUEST;
  const smep = (guest || kvm) && (load<u32>(space, SPACE_CR4) & CR4_SMEP) != 0;
  const nxe = (load<u32>(space, SPACE_EFER) & EFER_NXE) != 0;
  const xd = nxe && (mode >= MODE_PAE || kvm);
  return smep || xd ? PFERR_I : 0;
}

/** Protection keys exist in long mode only, and not at the nested level (SDM "Protection Keys"). */
function setKeys(space: usize, mode: u32): void {
  const guestLong = load<u32>(space, SPACE_KIND) == KIND_GUEST && mode >= MODE_4LEVEL;
  const cr4 = load<u32>(space, SPACE_CR4);
  store<u32>(space, guestLong && (cr4 & CR4_PKE) != 0 ? load<u32>(space, SPACE_PKRU) : 0, SPACE_KEYS_USER);
  store<u32>(space, guestLong && (cr4 & CR4_PKS) != 0 ? load<u32>(space, SPACE_PKRS) : 0, SPACE_KEYS_SUPERVISOR);
}

/** SDM "Linear-Address Masking": LAM_U57 wins over LAM_U48; CR4.LAM_SUP follows the paging mode. */
function setMasking(space: usize, mode: u32): void {
  const guestLong = load<u32>(space, SPACE_KIND) == KIND_GUEST && mode >= MODE_4LEVEL;
  const cr3 = load<u64>(space, SPACE_CR3);
  let user: u32 = 0;
  if (cr3 & CR3_LAM_U57) user = 57;
  else if (cr3 & CR3_LAM_U48) user = 48;
  const supervisor: u32 = load<u32>(space, SPACE_CR4) & CR4_LAM_SUP ? widthOf(mode) : 0;
  store<u32>(space, guestLong ? user : 0, SPACE_LAM_USER);
  store<u32>(space, guestLong ? supervisor : 0, SPACE_LAM_SUPERVISOR);
}
