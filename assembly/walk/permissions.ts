/**
 * Permission checks as table look-ups. The table has one 16-bit word for each value of error-code bits 4:1
 * (W, U, the position of RSVD, I/D), and in each word bit r is set where rights combination r denies the access.
 * The RSVD position means for legacy formats that SMAP does not apply (EFLAGS.AC=1 and not implicit), for EPT that
 * the linear address is a user-mode one. In EPT the U position means a data read.
 */
import {
  CODE_INDEX,
  CODE_INDEX_SHIFT,
  CR0_WP,
  CR4_SMAP,
  CR4_SMEP,
  KEY_RIGHTS_AD,
  KEY_RIGHTS_WD,
  PFERR_I,
  PFERR_PK,
  PFERR_RSVD,
  PFERR_U,
  PFERR_W,
} from "../abi/bits";
import {
  FEATURE_GUEST_MODE_EXECUTE_TRAP,
  FEATURE_MODE_BASED_EXECUTE,
  FEATURE_PKRS_USER,
  KIND_EPT,
  MODE_NONE,
  RIGHT_EXECUTE,
  RIGHT_USER,
  RIGHT_USER_EXECUTE,
  RIGHT_WRITE,
} from "../abi/codes";
import { Space } from "../abi/records";

/** Number of the word for `code`. */
// @ts-ignore: decorator
@inline function indexOf(code: u32): u32 {
  return (code & CODE_INDEX) >> CODE_INDEX_SHIFT;
}

/** Whether `rights` deny the access that error-code bits 4:1 of `code` describe. */
// @ts-ignore: decorator
@inline export function denies(space: Space, code: u32, rights: u32): bool {
  return (((<u32>space.permissions(indexOf(code))) >> rights) & 1) != 0;
}

/** Rebuilds the table; needed only when CR0.WP, CR4.SMEP or CR4.SMAP changes, or the mode. `xd`: EFER.NXE counts. */
export function setPermissions(space: Space, xd: bool): void {
  const ept = space.kind == KIND_EPT;
  for (let code: u32 = 0; code <= CODE_INDEX; code += 1 << CODE_INDEX_SHIFT) {
    let word: u32 = 0;
    for (let rights: u32 = 0; rights < 16; rights++) {
      const denied = ept ? eptDenies(space, code, rights) : legacyDenies(space, code, rights, xd);
      if (denied) word |= (<u32>1) << rights;
    }
    space.setPermissions(indexOf(code), <u16>word);
  }
}

/** SDM "Access Rights": supervisor-mode and user-mode accesses to user-mode and supervisor-mode addresses. */
function legacyDenies(space: Space, code: u32, rights: u32, xd: bool): bool {
  if (space.mode == MODE_NONE) return false;
  const user = (code & PFERR_U) != 0;
  const write = (code & PFERR_W) != 0;
  const fetch = (code & PFERR_I) != 0;
  const userAddress = (rights & RIGHT_USER) != 0;
  const trap = (space.features & FEATURE_GUEST_MODE_EXECUTE_TRAP) != 0;
  if (user && !userAddress && !trap) return true;
  if (fetch && xd && !(rights & RIGHT_EXECUTE)) return true;
  // The nested level sees user accesses only, so WP, SMEP and SMAP say nothing there (APM "Nested Paging"). With guest mode
  // execute trap U/S says which fetches are refused and no more.
  const writeProtect = user || trap || (space.cr0 & CR0_WP) != 0;
  if (write && writeProtect && !(rights & RIGHT_WRITE)) return true;
  if (user || !userAddress) return false;
  if (trap) return fetch;
  const cr4 = space.cr4;
  if (fetch) return (cr4 & CR4_SMEP) != 0;
  return (cr4 & CR4_SMAP) != 0 && !(code & PFERR_RSVD);
}

/** SDM "EPT Violations"; mode-based execute control has a right of its own for user-mode linear addresses. */
function eptDenies(space: Space, code: u32, rights: u32): bool {
  const userAddress = (code & PFERR_RSVD) != 0;
  const modeBased = (space.features & FEATURE_MODE_BASED_EXECUTE) != 0;
  const execute = modeBased && userAddress ? RIGHT_USER_EXECUTE : RIGHT_EXECUTE;
  if (code & PFERR_U && !(rights & RIGHT_USER)) return true;
  if (code & PFERR_W && !(rights & RIGHT_WRITE)) return true;
  return (code & PFERR_I) != 0 && !(rights & execute);
}

/**
 * The PK bit of the error code where the protection key denies this data access, else 0.
 * PKRU governs user-mode addresses, IA32_PKRS supervisor-mode ones, for both kinds of access; of a user access to a
 * supervisor-mode address, which rights deny anyway, FEATURE_PKRS_USER decides whether the key is reported.
 * Write-disable binds a supervisor write only with CR0.WP=1 (SDM "Protection Keys").
 */
export function keyDenial(space: Space, code: u32, rights: u32, key: u32): u32 {
  const userAddress = (rights & RIGHT_USER) != 0;
  const keys = userAddress ? space.keysUser : space.keysSupervisor;
  return keys == 0 ? 0 : keyDenialBy(space, keys >> (key << 1), code, userAddress);
}

function keyDenialBy(space: Space, key: u32, code: u32, userAddress: bool): u32 {
  const user = (code & PFERR_U) != 0;
  if (code & PFERR_I) return 0;
  if (user && !userAddress && !(space.features & FEATURE_PKRS_USER)) return 0;
  const accessDisable = (key & KEY_RIGHTS_AD) != 0;
  const writeDisable = (key & KEY_RIGHTS_WD) != 0;
  if (accessDisable) return PFERR_PK;
  if (!writeDisable || !(code & PFERR_W)) return 0;
  return user || (space.cr0 & CR0_WP) != 0 ? PFERR_PK : 0;
}
