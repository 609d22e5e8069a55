/**
 * The layouts of page role and extended role, one table per kernel era and this
 * project's own. Every `source` says in which tree the table was checked.
 * "mainline" below is the KVM of Linux 7.2, of 2026.
 */
import type { BitField, BitLayout } from "../abi/bits.js";
import { parseRelease } from "../abi/release.js";
import { ConfigError } from "../errors.js";
import { roleField as f } from "./fields.js";

/** Names of the eras: the first kernel release with that layout, or "project". */
export const ERAS = ["5.0", "5.1", "5.7", "5.14", "5.17", "5.19", "6.14", "7.2", "project"] as const;
/** The first release of each layout. */
export type Era = (typeof ERAS)[number];

/** The bits of a role in the kernels of one era. */
export interface RoleLayout {
  readonly era: Era;
  /** Which kernels use it. */
  readonly kernels: string;
  /** The page role: a 32-bit word. */
  readonly base: BitLayout;
  /** The extended role: a 32-bit word, above the page role in a 64-bit CPU role. */
  readonly ext: BitLayout;
}

const PAGE_ROLE = "union kvm_mmu_page_role";
const EXTENDED_ROLE = "union kvm_mmu_extended_role";

const BASE_5_1: readonly BitField[] = [
  f("level", 0),
  f("gpte_is_8_bytes", 4),
  f("quadrant", 5),
  f("direct", 7),
  f("access", 8),
  f("invalid", 11),
  f("nxe", 12),
  f("cr0_wp", 13),
  f("smep_andnot_wp", 14),
  f("smap_andnot_wp", 15),
  f("ad_disabled", 16),
  f("guest_mode", 17),
  f("smm", 24),
];

const BASE_5_0 = replace(BASE_5_1, f("cr4_pae", 4));
const BASE_5_14 = replace(BASE_5_1, f("efer_nx", 12));
const BASE_5_17 = replace(BASE_5_14, f("has_4_byte_gpte", 4));
const BASE_5_19 = [...BASE_5_17, f("passthrough", 18)];
const BASE_6_14 = [...BASE_5_19, f("is_mirror", 19)];

const BASE_7_2: readonly BitField[] = [
  f("level", 0),
  f("has_4_byte_gpte", 4),
  f("quadrant", 5),
  f("direct", 7),
  f("access", 8, { width: 4 }),
  f("invalid", 12),
  f("efer_nx", 13),
  f("cr0_wp", 14),
  f("smap_andnot_wp", 15),
  f("ad_disabled", 16),
  f("guest_mode", 17),
  f("passthrough", 18),
  f("is_mirror", 19),
  f("cr4_smep", 20, { meaning: "CR4.SMEP; mode-based execute control of EPT; GMET of NPT" }),
  f("smm", 24),
];

const BASE_PROJECT = [...BASE_5_17, f("level_promoted", 18), f("pae_root", 19), f("guest_level", 20)];

const EXT_5_0 = [
  f("valid", 0),
  f("execonly", 1),
  f("cr0_pg", 2),
  f("cr4_pse", 3),
  f("cr4_pke", 4),
  f("cr4_smap", 5),
  f("cr4_smep", 6),
  f("cr4_la57", 7),
  f("maxphyaddr", 8),
];

const EXT_5_1 = [
  f("valid", 0),
  f("execonly", 1),
  f("cr0_pg", 2),
  f("cr4_pae", 3),
  f("cr4_pse", 4),
  f("cr4_pke", 5),
  f("cr4_smap", 6),
  f("cr4_smep", 7),
  f("cr4_la57", 8),
  f("maxphyaddr", 9),
];

const EXT_5_7 = [...EXT_5_1.slice(0, 8), f("maxphyaddr", 8)];
const EXT_5_14 = [...EXT_5_1.slice(0, 9), f("efer_lma", 9)];

const EXT_5_19 = [
  f("valid", 0),
  f("execonly", 1),
  f("cr4_pse", 2),
  f("cr4_pke", 3),
  f("cr4_smap", 4),
  f("cr4_smep", 5),
  f("cr4_la57", 6),
  f("efer_lma", 7),
];

const EXT_7_2 = [...EXT_5_19.slice(0, 5), f("cr4_la57", 5), f("efer_lma", 6), f("has_pferr_fetch", 7)];

/** The same fields with the one at `field`'s position replaced. */
function replace(fields: readonly BitField[], field: BitField): readonly BitField[] {
  return fields.map((old) => (old.low === field.low ? field : old));
}

function layout(
  era: Era,
  kernels: string,
  base: readonly BitField[],
  baseSource: string,
  ext: readonly BitField[],
  extSource: string,
): RoleLayout {
  const name = era.toUpperCase().replace(".", "_");
  return {
    era,
    kernels,
    base: {
      prefix: `ROLE_${name}`,
      title: `Page role, ${kernels}`,
      source: `${PAGE_ROLE}: ${baseSource}`,
      fields: base,
    },
    ext: {
      prefix: `EXT_ROLE_${name}`,
      title: `Extended role, ${kernels}`,
      source: `${EXTENDED_ROLE}: ${extSource}`,
      fields: ext,
    },
  };
}

const LAYOUTS: readonly RoleLayout[] = [
  layout(
    "5.0",
    "5.0",
    BASE_5_0,
    "not seen in a 5.0 tree; from mainline commit 47c42e6b4192 (5.1-rc), which renamed bit 4 from cr4_pae, the other fields as there",
    EXT_5_0,
    "not seen in a 5.0 tree; as in mainline commit 47c42e6b4192 (5.1-rc), before cr4_pae was added",
  ),
  layout(
    "5.1",
    "5.1 to 5.6 (extended role also 5.10.48+ and 5.12.15+)",
    BASE_5_1,
    "mainline commit 47c42e6b4192 (5.1-rc) and Debian's 5.10.223",
    EXT_5_1,
    "Debian's 5.10.223 and mainline commit b2c5af71ce4b; that 5.1 itself has cr4_pae is from the mailing-list patch (April 2019)",
  ),
  layout(
    "5.7",
    "5.7 to 5.13 as released (extended role without cr4_la57)",
    BASE_5_1,
    "Debian's 5.10.223",
    EXT_5_7,
    "the stable patches 5.10.48 and 5.12.15, which revert 8053f924cad3 (its release, 5.7, is from its date and not checked in a tree)",
  ),
  layout(
    "5.14",
    "5.14 to 5.16",
    BASE_5_14,
    "a mainline kvm_host.h of the 5.16 era (struct fpu_guest and gpte_is_8_bytes); the boundary 5.14 is not checked in a tree",
    EXT_5_14,
    "the same file",
  ),
  layout(
    "5.17",
    "5.17 and 5.18",
    BASE_5_17,
    "not seen in a 5.17 tree; mailing-list patch 20211124122055.64424-10 (November 2021) renames bit 4 and inverts it",
    EXT_5_14,
    "not seen in a 5.17 tree; mailing-list patch 20220414074000.31438-17 (April 2022) shows cr0_pg and cr4_pae still there",
  ),
  layout(
    "5.19",
    "5.19 to 6.13",
    BASE_5_19,
    "Debian's 6.1.192 and 6.12.107; that 5.19 is the first is from the patch's date (April 2022)",
    EXT_5_19,
    "Debian's 6.1.192 and 6.12.107",
  ),
  layout(
    "6.14",
    "6.14 and later (seen up to 6.16)",
    BASE_6_14,
    "mailing-list patch 20240718211230.1492011-6 (is_mirror follows passthrough); absent from Debian's 6.12.107; that 6.14 is the first is not checked in a tree",
    EXT_5_19,
    "a 6.16.1 tree (KT0511/linux-6.16.1 at 30b97c8a18bb)",
  ),
  layout(
    "7.2",
    "mainline of 2026 (7.2, 7.3)",
    BASE_7_2,
    "Debian's 7.2.6, 7.2.13 and 7.3.4; which release before 7.2 was the first is not known",
    EXT_7_2,
    "Debian's 7.2.6, 7.2.13 and 7.3.4",
  ),
  layout(
    "project",
    "this project: 6.1 without special roots",
    BASE_PROJECT,
    "the 6.1 layout with level_promoted in the position of passthrough, pae_root and guest_level",
    EXT_5_19,
    "the 6.1 layout",
  ),
];

const BY_ERA = new Map(LAYOUTS.map((entry) => [entry.era, entry]));

/** The layout of an era. */
export function layoutOf(era: Era): RoleLayout {
  const found = BY_ERA.get(era);
  if (found === undefined) throw new ConfigError(`unknown role layout ${era}: expected one of ${ERAS.join(", ")}`);
  return found;
}

/** All layouts, oldest first, this project's last. */
export function roleLayouts(): readonly RoleLayout[] {
  return LAYOUTS;
}

/** This project's page role: what shadow pages of the engine are named by. */
export const PROJECT_ROLE: BitLayout = layoutOf("project").base;

/** Stable releases that got cr4_la57 back into the extended role: [major, minor, first sublevel]. */
const LA57_RESTORED: readonly (readonly [number, number, number])[] = [
  [5, 10, 48],
  [5, 12, 15],
];

/**
 * The layout that a kernel release uses.
 * @param name "project", "mainline", an era, or a release such as "6.1" or "5.10.223".
 * A series without a sublevel means its first release.
 * @throws ConfigError for anything else, and for the releases between 6.17 and 7.1, where the
 * change from the 6.14 layout to the 7.2 layout has not been located.
 */
export function layoutOfKernel(name: string): RoleLayout {
  if (name === "project") return layoutOf("project");
  if (name === "mainline") return layoutOf("7.2");
  const release = parseRelease(name);
  if (release === undefined) {
    throw new ConfigError(`unknown kernel "${name}": expected project, mainline or a release from 5.0, such as 6.1`);
  }
  const era = eraOfRelease(...release);
  if (era === undefined) {
    throw new ConfigError(
      `no role layout is known for kernel ${name}: expected 5.0 to 6.16, or 7.2 and later (name 6.14 or 7.2 for those between)`,
    );
  }
  return layoutOf(era);
}

function eraOfRelease(major: number, minor: number, sublevel: number): Era | undefined {
  const atLeast = (a: number, b: number) => major > a || (major === a && minor >= b);
  if (atLeast(7, 2)) return "7.2";
  if (atLeast(6, 17)) return undefined;
  if (atLeast(6, 14)) return "6.14";
  if (atLeast(5, 19)) return "5.19";
  if (atLeast(5, 17)) return "5.17";
  if (atLeast(5, 14)) return "5.14";
  if (atLeast(5, 7)) {
    const restored = LA57_RESTORED.some(([a, b, c]) => major === a && minor === b && sublevel >= c);
    return restored ? "5.1" : "5.7";
  }
  if (atLeast(5, 1)) return "5.1";
  return atLeast(5, 0) ? "5.0" : undefined;
}
