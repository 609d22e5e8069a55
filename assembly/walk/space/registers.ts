/**
 * Register writes that an emulator's guest makes all the time, done here alone where the processor takes them: the host has
 * said which bits it refuses, and does whatever is left to it.
 */
import {
  CR0_PG,
  CR3_LAM_U48,
  CR3_LAM_U57,
  CR3_NOFLUSH,
  CR4_LA57,
  CR4_PAE,
  CR4_PCIDE,
  CR4_PGE,
  CR4_PSE,
  CR4_SMEP,
  EFER_LMA,
  EFER_NXE,
  KEY_RIGHTS_AD,
  KEY_RIGHTS_WD,
} from "../../abi/bits";
import {
  FEATURE_LIVE_PDPTES,
  KIND_EPT,
  MODE_PAE,
  REGISTER_DONE,
  REGISTER_REFUSED,
  STATUS_OK,
  TLB_ALL,
} from "../../abi/codes";
import { SavedMode, Space } from "../../abi/records";
import { loadPdptes } from "../pdptes";
import { hasKeys, setCanonical, setKeyBlocks } from "../plan";
import { tlbFlush } from "../tlb/tlb";
import { enterContext, renameContext, renameLines } from "../tlb/tlb-names";
import { setKeys, setMasking, setPcid, setRoot } from "./configure";

/**
 * MOV to CR3, bit 63 an order to keep what the TLB holds. Returns REGISTER_DONE, or REGISTER_REFUSED with nothing changed
 * where the host has to look: bits in `cr3Refused`, PDPTEs that cannot be loaded.
 */
export function writeCr3(space: Space, value: u64): u32 {
  if (value & space.cr3Refused) return REGISTER_REFUSED;
  const cr3 = value & ~CR3_NOFLUSH;
  const before = space.cr3;
  setRoot(space, cr3);
  if (space.mode == MODE_PAE && !(space.features & FEATURE_LIVE_PDPTES) && loadPdptes(space) != STATUS_OK) {
    setRoot(space, before);
    return REGISTER_REFUSED;
  }
  if ((cr3 ^ before) & (CR3_LAM_U48 | CR3_LAM_U57)) {
    setMasking(space, space.mode);
    setCanonical(space, space.mode);
  }
  if (space.tlb == 0) return REGISTER_DONE;
  enterContext(space);
  if (value == cr3) renameContext(space, space.pcid);
  return REGISTER_DONE;
}

/** WRPKRU, or WRMSR to IA32_PKRS. Lines are of pages with key 0, which only that key's rights concern. */
export function writeKeys(space: Space, pkru: u32, pkrs: u32): void {
  const keyZero: u32 = KEY_RIGHTS_AD | KEY_RIGHTS_WD;
  const user = space.keysUser;
  const supervisor = space.keysSupervisor;
  space.pkru = pkru;
  space.pkrs = pkrs;
  setKeys(space, space.mode);
  if (!hasKeys(space, space.mode)) return;
  if ((((user ^ space.keysUser) | (supervisor ^ space.keysSupervisor)) & keyZero) == 0) return;
  setKeyBlocks(space);
  if (space.tlb != 0) renameLines(space);
}

/** The memory has other slots, or pages that hold something else: nothing that was found before is sure. */
export function slotsChanged(space: Space): void {
  if (space.kind != KIND_EPT) setRoot(space, space.cr3);
  tlbFlush(space, TLB_ALL, 0);
}

/** Keeps what the space's CR0, CR4 and EFER made of it. */
export function saveMode(space: Space, saved: SavedMode): void {
  saved.cr0 = space.cr0;
  saved.cr4 = space.cr4;
  saved.efer = space.efer;
  memory.copy(saved.fieldsAddress, fieldsOf(space), FIELD_BYTES);
  memory.copy(saved.arraysAddress, arraysOf(space), arrayBytes(space));
}

/**
 * MOV to CR0 and CR4 and WRMSR to EFER, to values that the space has had before: it is what it was then, with the CR3 and
 * the keys of now. Returns REGISTER_REFUSED with nothing changed where that CR3 is none for the mode.
 */
export function recallMode(space: Space, saved: SavedMode): u32 {
  const cr3Refused = load<u64>(saved.fieldsAddress + offsetof<Space>("cr3Refused") - offsetof<Space>("mode"));
  if (space.cr3 & cr3Refused) return REGISTER_REFUSED;
  const cr0 = space.cr0;
  const cr4 = space.cr4;
  const efer = space.efer;
  space.cr0 = saved.cr0;
  space.cr4 = saved.cr4;
  space.efer = saved.efer;
  memory.copy(fieldsOf(space), saved.fieldsAddress, FIELD_BYTES);
  memory.copy(arraysOf(space), saved.arraysAddress, arrayBytes(space));
  // Plans that tell slots apart are those of the slot of then, unless setRoot finds another one.
  setRoot(space, space.cr3);
  setMasking(space, space.mode);
  setCanonical(space, space.mode);
  setKeys(space, space.mode);
  setKeyBlocks(space);
  afterChange(space, cr0, cr4, efer);
  return REGISTER_DONE;
}

/** The fields that `configure` derives, MODE to before TLB, and its arrays, PLANS to before PDPTES. */
// @ts-ignore: decorator
@inline const FIELD_BYTES: usize = offsetof<Space>("tlb") - offsetof<Space>("mode");

// @ts-ignore: decorator
@inline function fieldsOf(space: Space): usize {
  return changetype<usize>(space) + offsetof<Space>("mode");
}

// @ts-ignore: decorator
@inline function arraysOf(space: Space): usize {
  return changetype<usize>(space) + Space.PLANS;
}

// @ts-ignore: decorator
@inline function arrayBytes(space: Space): usize {
  return space.pdptesAddress - arraysOf(space);
}

/** CR4 bits whose change invalidates everything; SMEP does where it is set. */
// @ts-ignore: decorator
@inline const CR4_FLUSHES: u32 = CR4_PGE | CR4_PAE | CR4_PSE | CR4_LA57 | CR4_PCIDE;

/**
 * What the software TLB loses where CR0, CR4 and EFER were others before: everything where translations may differ (SDM
 * "Operations that Invalidate TLBs and Paging-Structure Caches"), else the lines, whose rights were checked.
 */
export function afterChange(space: Space, cr0: u32, cr4: u32, efer: u32): void {
  setPcid(space);
  if (space.tlb == 0) return;
  const changed = cr4 ^ space.cr4;
  const all =
    ((cr0 ^ space.cr0) & CR0_PG) |
    (changed & CR4_FLUSHES) |
    (changed & space.cr4 & CR4_SMEP) |
    ((efer ^ space.efer) & (EFER_NXE | EFER_LMA));
  enterContext(space);
  if (all) tlbFlush(space, TLB_ALL, 0);
  else renameLines(space);
}
