/**
 * What the fields of a role mean, independent of the layout: the middle of every
 * conversion. A layout's fields are read into concepts, derivable concepts are
 * filled in, and the other layout's fields are written from them.
 */
import { fieldOf } from "../abi/bits.js";
import { ACC } from "../abi/spte.js";
import type { RoleWords } from "./codec.js";
import { decodeRole } from "./codec.js";
import type { RoleLayout } from "./layouts.js";

/** Concept values by name. A concept that is absent is unknown. */
export type Concepts = Map<string, number>;

/** Fields of older layouts that mean what a newer name says. */
const SAME: Readonly<Record<string, string>> = { nxe: "efer_nx" };

/** Reading of the fields that are no concept themselves: [concepts of a value]. */
type Reader = (value: number, fields: Readonly<Record<string, number>>) => readonly (readonly [string, number])[];

/**
 * Guest-entry size of a page whose field says "8 bytes". A direct page has no guest
 * entries: 5.0 stores 0 in it and 5.1 to 5.16 store 1 (kvm_mmu_get_page), neither of
 * which says that the entries have 4 bytes.
 */
const eightBytes: Reader = (value, fields) => [["gpte4", fields.direct === 1 ? 0 : 1 - value]];

const READERS: Readonly<Record<string, Reader>> = {
  "base.cr4_pae": eightBytes,
  "base.gpte_is_8_bytes": eightBytes,
  "base.has_4_byte_gpte": (value) => [["gpte4", value]],
};

/** Positions in an access mask of 3 bits, where readable is implied, */
const ACCESS_X = fieldOf(ACC, "EXEC").low;
const ACCESS_W = fieldOf(ACC, "WRITE").low;
const ACCESS_U = fieldOf(ACC, "USER").low;
/** and in one of 4: rights to read and to execute beside the two that are where they were. */
const WIDE_ACCESS_R = 0;
const WIDE_ACCESS_X = 3;

function bitAt(access: number, position: number): number {
  return (access >> position) & 1;
}

function readAccess(layout: RoleLayout, access: number): readonly (readonly [string, number])[] {
  const wide = isWideAccess(layout);
  const shared = [
    ["access_w", bitAt(access, ACCESS_W)],
    ["access_u", bitAt(access, ACCESS_U)],
  ] as const;
  return wide
    ? [["access_r", bitAt(access, WIDE_ACCESS_R)], ...shared, ["access_x", bitAt(access, WIDE_ACCESS_X)]]
    : [["access_x", bitAt(access, ACCESS_X)], ...shared];
}

function isWideAccess(layout: RoleLayout): boolean {
  return layout.base.fields.find((field) => field.name === "access")?.width === 4;
}

function readField(
  layout: RoleLayout,
  half: "base" | "ext",
  name: string,
  value: number,
  fields: Record<string, number>,
) {
  if (half === "base" && name === "access") return readAccess(layout, value);
  const reader = READERS[`${half}.${name}`];
  return reader === undefined ? [[SAME[name] ?? name, value] as const] : reader(value, fields);
}

/** Which concepts each field of a role word asserts. */
export interface FieldConcepts {
  /** `direct`, or `ext.cr4_pae` in the extended role. */
  readonly field: string;
  readonly value: number;
  readonly concepts: readonly (readonly [string, number])[];
}

/** The concepts that the word itself asserts, field by field. */
export function conceptsByField(layout: RoleLayout, role: RoleWords): FieldConcepts[] {
  const decoded = decodeRole(layout, role);
  const found: FieldConcepts[] = [];
  for (const half of ["base", "ext"] as const) {
    const fields = decoded[half]?.fields;
    for (const [name, value] of Object.entries(fields ?? {})) {
      const field = half === "base" ? name : `ext.${name}`;
      found.push({ field, value, concepts: readField(layout, half, name, value, { ...fields }) });
    }
  }
  return found;
}

/** All concepts of a word, the derivable ones included. */
export function conceptsOf(layout: RoleLayout, role: RoleWords): Concepts {
  const concepts: Concepts = new Map();
  for (const { concepts: pairs } of conceptsByField(layout, role)) {
    for (const [concept, value] of pairs) concepts.set(concept, value);
  }
  return derive(concepts);
}

/** Fills in what follows from other concepts; what is stated stays. */
function derive(known: Concepts): Concepts {
  const get = (name: string) => known.get(name);
  const put = (name: string, value: number | boolean | undefined) => {
    if (value !== undefined && !known.has(name)) known.set(name, Number(value));
  };
  const level = get("level") ?? 0;
  const direct = get("direct") === 1;
  const fourByte = get("gpte4") === 1;

  // Kernels without a 4-bit access mask have no page that cannot be read.
  put("access_r", 1);

  // SMEP is not stored with CR0.WP=1 before it became a field of its own.
  put("cr4_smep", get("smep_andnot_wp") === 1 ? 1 : get("cr0_wp") === 0 ? get("smep_andnot_wp") : undefined);
  put("smep_andnot_wp", get("cr4_smep") === 1 && get("cr0_wp") === 0);
  if (known.has("cr4_smep")) put("has_pferr_fetch", get("cr4_smep") === 1 || get("efer_nx") === 1);

  // "remove redundant bits from extended role": CR0.PG is !direct and CR4.PAE is !gpte4 in a CPU role.
  put("cr0_pg", !direct);
  put("cr4_pae", direct ? undefined : !fourByte);
  put("cr4_la57", direct ? undefined : level === 5);
  put("efer_lma", direct ? undefined : level >= 4);

  // Pages above the guest root. 4-byte entries have two levels, so a higher level is a promoted one;
  // `passthrough` says the same of a 4-level guest under a 5-level table.
  const passthrough = get("passthrough") === 1;
  put("level_promoted", !direct && (passthrough || (fourByte && level > 2)));
  const promoted = get("level_promoted") === 1;
  const ownLevel = level <= 5 ? level : undefined;
  put("guest_level", direct ? 0 : !promoted ? ownLevel : fourByte ? 2 : 4);
  put("passthrough", promoted && level === 5 && get("guest_level") === 4);
  put("pae_root", level === 3 ? undefined : 0);
  // A layout without the field has no such pages.
  put("is_mirror", 0);
  return known;
}

/** The value of a layout's field, or undefined where the concepts do not tell it. */
export function fieldFromConcepts(layout: RoleLayout, half: "base" | "ext", name: string, known: Concepts) {
  if (half === "base") {
    const direct = known.get("direct") === 1;
    switch (name) {
      case "access": {
        const bit = (concept: string) => known.get(concept) ?? 0;
        const shared = (bit("access_w") << ACCESS_W) | (bit("access_u") << ACCESS_U);
        if (!isWideAccess(layout)) return shared | (bit("access_x") << ACCESS_X);
        return shared | (bit("access_r") << WIDE_ACCESS_R) | (bit("access_x") << WIDE_ACCESS_X);
      }
      case "cr4_pae":
        return direct ? 0 : 1 - (known.get("gpte4") ?? 0);
      case "gpte_is_8_bytes":
        return direct ? 1 : 1 - (known.get("gpte4") ?? 0);
      case "has_4_byte_gpte":
        return known.get("gpte4");
    }
  }
  return known.get(SAME[name] ?? name);
}
