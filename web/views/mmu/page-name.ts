/** How a page is called. */
import type { PicturePage } from "../../engine/mmu/picture.js";

export function nameOf({ special, gfn, level, direct, roleText }: PicturePage): string {
  if (special !== undefined) return `${special}, level ${level}`;
  return `${direct ? "direct " : ""}gfn 0x${gfn.toString(16)}, ${roleText}`;
}

/** The fields of a role that are worth a place on a small box. */
const SHORT = ["pae_root", "level_promoted", "passthrough", "guest_mode", "smm", "invalid"];

export function shortRole({ special, fields, level }: PicturePage): string {
  if (special !== undefined) return `${special}: no role`;
  const quadrant = fields.quadrant === undefined ? [] : [`q${fields.quadrant}`];
  return [`l${level}`, ...quadrant, fields.access ?? "", ...SHORT.filter((name) => fields[name] !== undefined)].join(
    " ",
  );
}
