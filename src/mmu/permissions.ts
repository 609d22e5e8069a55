/** Permission tables of a paging mode (update_permission_bitmask and update_pkru_bitmask of Linux 6.1). */

export interface PermissionInput {
  readonly wp: boolean;
  readonly nx: boolean;
  readonly smep: boolean;
  readonly smap: boolean;
  readonly pke: boolean;
}

const W = 2;
const U = 4;
const RSVD = 8;
const I = 16;
/** One bit for each combination of rights (U, W, X): set where that right is missing. */
const NO_X = 0x55;
const NO_W = 0x33;
const NO_U = 0x0f;
const IS_U = 0xf0;

/** permissions[16], indexed by error-code bits 4:1; the reserved bit's place says that SMAP does not apply. */
export function permissionTable(mode: PermissionInput): number[] {
  return Array.from({ length: 16 }, (_, index) => {
    const code = index << 1;
    const user = (code & U) !== 0;
    const supervisorOnUser = user ? 0 : IS_U;
    let denied = 0;
    if (code & W && (mode.wp || user)) denied |= NO_W;
    if (user) denied |= NO_U;
    if (code & I && mode.nx) denied |= NO_X;
    if (code & I && mode.smep) denied |= supervisorOnUser;
    if (mode.smap && !(code & (RSVD | I))) denied |= supervisorOnUser;
    return denied;
  });
}

/** Two bits for each error code (the reserved bit's place says that the page is a user page): what a key's AD and WD deny. */
export function protectionKeyMask(mode: PermissionInput): number {
  if (!mode.pke) return 0;
  let mask = 0;
  for (let index = 0; index < 16; index++) {
    const code = index << 1;
    if (code & I || !(code & RSVD)) continue;
    const write = (code & W) !== 0 && ((code & U) !== 0 || mode.wp);
    mask |= (1 | (write ? 2 : 0)) << code;
  }
  return mask >>> 0;
}
