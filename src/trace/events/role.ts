/**
 * Roles as traces show them: one number for what the kernel's text has (src/abi/traced-role.ts), whatever kernel and form it
 * comes from. Two pages whose roles differ in nothing that is shown have one number here.
 */
import { bitOf, fieldOf } from "../../abi/bits.js";
import { TRACED_ROLE } from "../../abi/traced-role.js";
import { conceptsOf } from "../../role/concepts.js";
import type { RoleLayout } from "../../role/index.js";

const mask = (name: string): number => Number(bitOf(TRACED_ROLE, name));
const shift = (name: string): number => fieldOf(TRACED_ROLE, name).low;

export const LEVEL = mask("level");
export const FOUR_BYTE = mask("has_4_byte_gpte");
export const QUADRANT = mask("quadrant");
export const DIRECT = mask("direct");
export const ACCESS = mask("access");
export const INVALID = mask("invalid");
export const NX = mask("efer_nx");
export const AD_DISABLED = mask("ad_disabled");
const QUADRANT_SHIFT = shift("quadrant");
const ACCESS_SHIFT = shift("access");

/** Letters of the access field, from its lowest bit. */
const LETTERS = ["r", "w", "u", "x"] as const;
type Letter = (typeof LETTERS)[number];
const RIGHT = Object.fromEntries(LETTERS.map((letter, bit) => [letter, 2 ** (ACCESS_SHIFT + bit)])) as {
  readonly [letter in Letter]: number;
};
export const { r: READ, w: WRITE, u: USER, x: EXECUTE } = RIGHT;

export const levelOf = (role: number): number => role & LEVEL;
export const quadrantOf = (role: number): number => (role & QUADRANT) >>> QUADRANT_SHIFT;
export const withLevel = (role: number, level: number): number => (role & ~LEVEL) | (level & LEVEL);
export const withQuadrant = (role: number, quadrant: number): number =>
  (role & ~QUADRANT) | ((quadrant << QUADRANT_SHIFT) & QUADRANT);

/** The role without what is not its own: a page keeps its role while it is on its way out. */
export const pageRole = (role: number): number => role & ~INVALID;

/** What every page of a context shares (sync_role_ign of kvm_sync_page_check, Linux 6.1 and later). */
export const contextOf = (role: number): number => role & (FOUR_BYTE | DIRECT | NX | AD_DISABLED);

function rightsText(role: number): string {
  return LETTERS.map((letter) => (role & RIGHT[letter] ? letter : "-")).join("");
}

/** Kernels with three rights print the letters in the order `wux`. */
const threeRights = (role: number): string => rightsText(role).slice(1);

/**
 * How kernels print a role: `pae` until 5.0 (`l1 pae q0`), then the size of guest entries (`l1 8-byte q0`); from 7.2 on with
 * four rights.
 */
export type RoleForm = "pae" | "size" | "four-rights";

/** `l1 8-byte q0 direct wux nxe ad`: as the kernel prints it. */
export function roleText(role: number, form: RoleForm = "size"): string {
  const size = role & FOUR_BYTE ? " 4-byte" : " 8-byte";
  const entry = form === "pae" ? (role & FOUR_BYTE ? "" : " pae") : size;
  const direct = role & DIRECT ? " direct" : "";
  const rights = form === "four-rights" ? rightsText(role) : threeRights(role);
  const invalid = role & INVALID ? " invalid" : "";
  const nx = role & NX ? "" : "!";
  const ad = role & AD_DISABLED ? "!" : "";
  return `l${levelOf(role)}${entry} q${quadrantOf(role)}${direct} ${rights}${invalid} ${nx}nxe ${ad}ad`;
}

/** Names of the fields in which two roles differ, each with both values. */
export function differingFields(one: number, other: number, form: RoleForm = "size"): string[] {
  const names: string[] = [];
  const rights = form === "four-rights" ? rightsText : threeRights;
  const bit = (flag: number, name: string) => {
    if ((one ^ other) & flag) names.push(`${name} ${one & flag ? 1 : 0}/${other & flag ? 1 : 0}`);
  };
  if (levelOf(one) !== levelOf(other)) names.push(`level ${levelOf(one)}/${levelOf(other)}`);
  if (form === "pae") {
    const pae = (role: number) => (role & FOUR_BYTE ? 0 : 1);
    if ((one ^ other) & FOUR_BYTE) names.push(`cr4_pae ${pae(one)}/${pae(other)}`);
  } else bit(FOUR_BYTE, "has_4_byte_gpte");
  if (quadrantOf(one) !== quadrantOf(other)) names.push(`quadrant ${quadrantOf(one)}/${quadrantOf(other)}`);
  bit(DIRECT, "direct");
  if ((one ^ other) & ACCESS) names.push(`access ${rights(one)}/${rights(other)}`);
  bit(INVALID, "invalid");
  bit(NX, "efer_nx");
  bit(AD_DISABLED, "ad_disabled");
  return names;
}

/** What the kernel's text would show of a role word. */
export function tracedRole(layout: RoleLayout, word: number): number {
  const known = conceptsOf(layout, { base: word >>> 0 });
  const flag = (name: string, bits: number) => (known.get(name) === 1 ? bits : 0);
  // Of a direct page the text shows the stored bit, which says nothing of guest entries.
  const stored = layout.base.fields.find(({ low }) => low === fieldOf(TRACED_ROLE, "has_4_byte_gpte").low)!;
  const set = (word & Number(bitOf(layout.base, stored.name))) !== 0;
  const four = stored.name === "has_4_byte_gpte" ? set : !set;
  return (
    ((known.get("level") ?? 0) & LEVEL) |
    (four ? FOUR_BYTE : 0) |
    (((known.get("quadrant") ?? 0) << QUADRANT_SHIFT) & QUADRANT) |
    flag("direct", DIRECT) |
    flag("access_r", READ) |
    flag("access_w", WRITE) |
    flag("access_u", USER) |
    flag("access_x", EXECUTE) |
    flag("invalid", INVALID) |
    flag("efer_nx", NX) |
    flag("ad_disabled", AD_DISABLED)
  );
}
