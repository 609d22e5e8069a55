/** A page's role in the words of the kernel's kvmmmu trace events (KVM_MMU_PAGE_PRINTK of 6.1). */
import { accessText } from "./codec.js";
import { layoutOf } from "./layouts.js";
import * as role from "./word.js";

const PROJECT = layoutOf("project");

/** `l1 8-byte q0 direct wux nxe ad`, from a 6.1 word or one of this project. */
export function roleTraceText(word: number): string {
  const entry = role.roleHas4ByteGpte(word) ? 4 : 8;
  const direct = role.roleIsDirect(word) ? " direct" : "";
  const access = accessText(PROJECT, role.roleAccess(word));
  const invalid = role.roleIsInvalid(word) ? " invalid" : "";
  const nx = word & role.ROLE_EFER_NX ? "" : "!";
  const ad = role.roleIsAdDisabled(word) ? "!" : "";
  return `l${role.roleLevel(word)} ${entry}-byte q${role.roleQuadrant(word)}${direct} ${access}${invalid} ${nx}nxe ${ad}ad`;
}
