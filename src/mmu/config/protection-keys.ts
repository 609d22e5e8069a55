/** The table of accesses that protection keys bind, as the kernel keeps it (update_pkru_bitmask of Linux 6.1). */
import { flagOf, PFERR } from "../../abi/index.js";
import { KEY_RIGHTS } from "../../abi/registers.js";

export interface KeyMode {
  readonly wp: boolean;
  readonly pke: boolean;
}

const [W, U, RSVD, I] = ["W", "U", "RSVD", "I"].map((name) => flagOf(PFERR, name)) as [number, number, number, number];
const AD = flagOf(KEY_RIGHTS, "AD");
const WD = flagOf(KEY_RIGHTS, "WD");

/** Two bits for each error code (the reserved bit's place says that the page is a user page): what a key's AD and WD deny. */
export function protectionKeyMask(mode: KeyMode): number {
  if (!mode.pke) return 0;
  let mask = 0;
  for (let index = 0; index < 16; index++) {
    const code = index << 1;
    if (code & I || !(code & RSVD)) continue;
    const write = (code & W) !== 0 && ((code & U) !== 0 || mode.wp);
    mask |= (write ? AD | WD : AD) << code;
  }
  return mask >>> 0;
}
