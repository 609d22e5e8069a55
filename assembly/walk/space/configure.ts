/** Deriving what a walk needs from registers, features and MAXPHYADDR. Runs when one of them changes, never in a walk. */
import {
  CR0_PG,
  CR3_LAM_U48,
  CR3_LAM_U57,
  CR3_PCID,
  CR4_LA57,
  CR4_LAM_SUP,
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
  LARGE_LEVEL_2,
  LARGE_LEVEL_3,
  PFERR_I,
  PTE32_ADDRESS,
  PTE_ADDRESS,
  PTE_XD,
} from "../../abi/bits";
import {
  FEATURE_GUEST_MODE_EXECUTE_TRAP,
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
import { Space } from "../../abi/records";
import { setPermissions } from "../permissions";
import { setFast, setPlans, setTables } from "../plan";
import { setEptReserved, setLegacyReserved } from "../reserved";
import { enterContext, renameLines } from "../tlb/tlb-names";

/** Fills the derived fields of `space`, whose registers the processor takes: the host has checked that. */
export function configure(space: Space): void {
  if (space.kind == KIND_EPT) configureEpt(space);
  else configureLegacy(space, legacyMode(space));
}

/** SDM "Paging Modes and Control Bits". */
function legacyMode(space: Space): u32 {
  const cr4 = space.cr4;
  if (!(space.cr0 & CR0_PG)) return MODE_NONE;
  if (!(cr4 & CR4_PAE)) return MODE_32BIT;
  if (!(space.efer & EFER_LMA)) return MODE_PAE;
  return cr4 & CR4_LA57 ? MODE_5LEVEL : MODE_4LEVEL;
}

function configureLegacy(space: Space, mode: u32): void {
  const features = space.features;
  const cr4 = space.cr4;
  const lenient = (features & FEATURE_LENIENT) != 0;
  const nxe = (space.efer & EFER_NXE) != 0 || lenient;
  const addressMask = (mode == MODE_32BIT ? <u64>PTE32_ADDRESS : PTE_ADDRESS) & ~space.encryption;
  const pse = (cr4 & CR4_PSE) != 0;

  space.mode = mode;
  space.rootLevel = rootLevelOf(mode);
  space.largeLevels = largeLevelsOf(mode, pse, features);
  space.root = rootOf(space.cr3, mode, addressMask);
  space.addressMask = addressMask;
  space.xdMask = nxe ? PTE_XD : 0;
  space.width = widthOf(mode);
  space.fetchCode = fetchCode(space, mode);
  setKeys(space, mode);
  setMasking(space, mode);
  setLegacyReserved(space, mode, pse, nxe ? 0 : PTE_XD);
  setPermissions(space, nxe);
  setFast(space, mode);
  setTables(space);
  setPlans(space, mode);
  setPcid(space);
  if (space.tlb != 0) {
    enterContext(space);
    renameLines(space);
  }
}

function configureEpt(space: Space): void {
  const eptp = space.cr3;
  const level = <u32>((eptp & EPTP_WALK_LENGTH) >> EPTP_WALK_LENGTH_SHIFT) + 1;
  const mode = level == 5 ? MODE_EPT5 : MODE_EPT4;
  const features = space.features;
  space.mode = mode;
  space.rootLevel = level;
  const large: u32 =
    (features & FEATURE_PAGE_2M ? LARGE_LEVEL_2 : 0) | (features & FEATURE_PAGE_1G ? LARGE_LEVEL_3 : 0);
  space.largeLevels = large;
  space.root = eptp & PTE_ADDRESS;
  space.addressMask = PTE_ADDRESS;
  space.width = widthOf(mode);
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
  if (mode == MODE_32BIT) return pse ? LARGE_LEVEL_2 : 0;
  const level3: u32 = mode >= MODE_4LEVEL && (features & (FEATURE_PAGE_1G | FEATURE_LENIENT)) != 0 ? LARGE_LEVEL_3 : 0;
  return LARGE_LEVEL_2 | level3;
}

/** Another CR3 in the same mode: only the root follows. */
export function setRoot(space: Space, cr3: u64): void {
  const mode = space.mode;
  space.cr3 = cr3;
  space.root = rootOf(cr3, mode, space.addressMask);
  const base = space.tablesBase;
  const size = space.tablesSize;
  setTables(space);
  // Plans of 32-bit paging tell the slot of the tables from others.
  if (mode == MODE_32BIT && (base != space.tablesBase || size != space.tablesSize)) setPlans(space, mode);
  setPcid(space);
}

/** The PCID that CR3 names. */
export function setPcid(space: Space): void {
  space.pcid = space.cr4 & CR4_PCIDE ? <u32>(space.cr3 & CR3_PCID) : 0;
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
 * KVM reports it for NXE in every mode. NPT reports by the host's NXE, with guest mode execute trap
 * always, in KVM's walk also by the host's SMEP.
 */
function fetchCode(space: Space, mode: u32): u32 {
  const kvm = (space.features & FEATURE_KVM) != 0;
  const guest = space.kind == KIND_GUEST;
  const trap = (space.features & FEATURE_GUEST_MODE_EXECUTE_TRAP) != 0;
  const smep = trap || ((guest || kvm) && (space.cr4 & CR4_SMEP) != 0);
  const nxe = (space.efer & EFER_NXE) != 0;
  const xd = nxe && (mode >= MODE_PAE || kvm);
  return smep || xd ? PFERR_I : 0;
}

/** Protection keys exist in long mode only, and not at the nested level (SDM "Protection Keys"). */
export function setKeys(space: Space, mode: u32): void {
  const guestLong = space.kind == KIND_GUEST && mode >= MODE_4LEVEL;
  const cr4 = space.cr4;
  space.keysUser = guestLong && (cr4 & CR4_PKE) != 0 ? space.pkru : 0;
  space.keysSupervisor = guestLong && (cr4 & CR4_PKS) != 0 ? space.pkrs : 0;
}

/** SDM "Linear-Address Masking": LAM_U57 wins over LAM_U48; CR4.LAM_SUP follows the paging mode. */
export function setMasking(space: Space, mode: u32): void {
  const guestLong = space.kind == KIND_GUEST && mode >= MODE_4LEVEL;
  const cr3 = space.cr3;
  let user: u32 = 0;
  if (cr3 & CR3_LAM_U57) user = 57;
  else if (cr3 & CR3_LAM_U48) user = 48;
  const supervisor: u32 = space.cr4 & CR4_LAM_SUP ? widthOf(mode) : 0;
  space.lamUser = guestLong ? user : 0;
  space.lamSupervisor = guestLong ? supervisor : 0;
}
