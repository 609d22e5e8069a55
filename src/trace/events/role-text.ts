/** Reads roles out of text: the kernel's own, and that of libtraceevent's plugin. */
import { bitOf, fieldOf } from "../../abi/bits.js";
import { PLUGIN_ROLE } from "../../abi/traced-role.js";
import { layoutOf, type RoleLayout } from "../../role/index.js";
import { ascii, type Cursor } from "./cursor.js";
import { FaultReturns } from "./fault-returns.js";
import { ExitReason, Kind, PAGE_EVENTS, Slot } from "./kinds.js";
import type { EventRecord } from "./record.js";
import * as role from "./role.js";

const L = "l".charCodeAt(0);
const SPACE = " ".charCodeAt(0);
const DASH = "-".charCodeAt(0);
const NOT = "!".charCodeAt(0);
const PAE = ascii(" pae");
const FOUR = ascii(" 4-byte");
const EIGHT = ascii(" 8-byte");
const QUADRANT = ascii(" q");
const DIRECT = ascii(" direct");
const INVALID = ascii(" invalid");
const NXE = ascii("nxe");
const AD = ascii("ad");
const NAMED_PAE = ascii("pae");
const WP = ascii("wp");
const SMEP = ascii(" smep");
const SMAP = ascii(" smap");
const SMM = ascii(" smm");
const LETTER = (letter: string): number => letter.charCodeAt(0);
/** The letters of three rights and of four, in the order in which they are printed, with their bits. */
const THREE: readonly (readonly [number, number])[] = [
  [LETTER("w"), role.WRITE],
  [LETTER("u"), role.USER],
  [LETTER("x"), role.EXECUTE],
];
const FOUR_RIGHTS: readonly (readonly [number, number])[] = [[LETTER("r"), role.READ], ...THREE];

/** Reads rights, letters or dashes; undefined where something else stands there. */
function rights(cursor: Cursor, letters: readonly (readonly [number, number])[]): number | undefined {
  let found = 0;
  for (let i = 0; i < letters.length; i++) {
    const [letter, bit] = letters[i]!;
    const byte = cursor.bytes[cursor.at + i];
    if (byte === letter) found |= bit;
    else if (byte !== DASH) return undefined;
  }
  cursor.at += letters.length;
  return found;
}

/** `nxe` or `!nxe`: 1 or 0, undefined for anything else. */
function flag(cursor: Cursor, name: Uint8Array): number | undefined {
  if (cursor.bytes[cursor.at] !== SPACE) return undefined;
  cursor.at++;
  const negated = cursor.bytes[cursor.at] === NOT;
  if (negated) cursor.at++;
  return cursor.literal(name) ? (negated ? 0 : 1) : undefined;
}

/** The kernel's text, KVM_MMU_PAGE_PRINTK of every era. */
export class RoleText {
  /** How the role that was read last was printed. */
  form: role.RoleForm | undefined;

  /** Leaves the role in the cursor's low half. */
  read(cursor: Cursor): boolean {
    if (cursor.bytes[cursor.at] !== L) return false;
    cursor.at++;
    if (!cursor.decimal()) return false;
    let word = cursor.low & role.LEVEL;
    if (word !== cursor.low) return false;
    let form: role.RoleForm = "size";
    if (cursor.literal(FOUR)) word |= role.FOUR_BYTE;
    else if (!cursor.literal(EIGHT)) {
      form = "pae";
      if (!cursor.literal(PAE)) word |= role.FOUR_BYTE;
    }
    if (!cursor.literal(QUADRANT) || !cursor.decimal() || cursor.low > 3) return false;
    word = role.withQuadrant(word, cursor.low);
    if (cursor.literal(DIRECT)) word |= role.DIRECT;
    if (cursor.bytes[cursor.at] !== SPACE) return false;
    cursor.at++;
    // Three letters, and then a space; or four.
    const wide = cursor.bytes[cursor.at + THREE.length] !== SPACE;
    const access = rights(cursor, wide ? FOUR_RIGHTS : THREE);
    if (access === undefined) return false;
    if (wide) form = "four-rights";
    // Kernels without a fourth right have no page that cannot be read.
    word |= wide ? access : access | role.READ;
    if (cursor.literal(INVALID)) word |= role.INVALID;
    const nx = flag(cursor, NXE);
    const ad = flag(cursor, AD);
    if (nx === undefined || ad === undefined) return false;
    if (nx === 1) word |= role.NX;
    if (ad === 0) word |= role.AD_DISABLED;
    this.form = form;
    cursor.low = word >>> 0;
    cursor.high = 0;
    return true;
  }
}

const bit = (name: string): number => Number(bitOf(PLUGIN_ROLE, name));
const PLUGIN_QUADRANT = fieldOf(PLUGIN_ROLE, "quadrant").low;
const PLUGIN_ACCESS = fieldOf(PLUGIN_ROLE, "access").low;
const PLUGIN_LETTERS: readonly (readonly [number, number])[] = [
  [LETTER("w"), 2 ** (PLUGIN_ACCESS + 1)],
  [LETTER("u"), 2 ** (PLUGIN_ACCESS + 2)],
  [LETTER("x"), 2 ** PLUGIN_ACCESS],
];
const OLD = layoutOf("5.1");
const NEWER = layoutOf("5.19");
const FOUR_RIGHTS_LAYOUT = layoutOf("7.2");
/** The exit reasons' numbers, by kvm_exit's `isa` (SDM vol. 3, "VMX Basic Exit Reasons"; APM vol. 2, "SVM Intercept Exit Codes"). */
const EXITS: Readonly<Record<number, Readonly<Record<number, number>>>> = {
  1: {
    28: ExitReason.CrAccess,
    32: ExitReason.MsrWrite,
    48: ExitReason.EptViolation,
    49: ExitReason.EptMisconfig,
    58: ExitReason.Invpcid,
  },
  2: {
    16: ExitReason.WriteMode,
    19: ExitReason.WriteCr3,
    20: ExitReason.WriteMode,
    78: ExitReason.PageFault,
    101: ExitReason.WriteMode,
    115: ExitReason.Rsm,
    124: ExitReason.MsrWrite,
    162: ExitReason.Invpcid,
    1024: ExitReason.Npf,
  },
};
/** Lowest level of a page that has 8-byte guest entries for certain. */
const LONG_MODE = 4;

/** What is the same in all forms but the kernel's own text: role words, and numbers that the kernel prints as words. */
export class PluginRoles {
  /** The kernel's layout, where it is known. */
  layout: RoleLayout | undefined;
  /** Roles were read out of the plugin's text, which does not say whether entries have A/D bits. */
  withoutAd = false;
  /** A text showed that the kernel has four rights. */
  fourRights = false;
  /** Bit 4 says that guest entries have 8 bytes, as a page of a 64-bit guest showed. */
  #old = false;
  readonly #known = new Map<number, number>();
  readonly #returns: FaultReturns;

  constructor(returns: FaultReturns = new FaultReturns()) {
    this.#returns = returns;
  }

  /** Reads the plugin's text of a role. */
  read(cursor: Cursor): boolean {
    if (!cursor.decimal() || cursor.low > role.LEVEL) return false;
    let word = cursor.low;
    if (!cursor.literal(QUADRANT) || !cursor.decimal() || cursor.low > 3) return false;
    word |= cursor.low << PLUGIN_QUADRANT;
    if (cursor.literal(DIRECT)) word |= bit("direct");
    if (cursor.bytes[cursor.at] !== SPACE) return false;
    cursor.at++;
    const access = rights(cursor, PLUGIN_LETTERS);
    if (access === undefined) return false;
    word |= access;
    if (cursor.literal(INVALID)) word |= bit("invalid");
    const pae = flag(cursor, NAMED_PAE);
    const nx = flag(cursor, NXE);
    const wp = flag(cursor, WP);
    if (pae === undefined || nx === undefined || wp === undefined) return false;
    if (pae === 1) word |= bit("cr4_pae");
    if (nx === 1) word |= bit("nxe");
    if (wp === 1) word |= bit("cr0_wp");
    if (cursor.literal(SMEP)) word |= bit("smep_andnot_wp");
    if (cursor.literal(SMAP)) word |= bit("smap_andnot_wp");
    cursor.literal(SMM);
    this.withoutAd = true;
    cursor.low = this.of(word);
    cursor.high = 0;
    return true;
  }

  /** What the kernel's text would show of a role word. */
  of(word: number): number {
    if (this.layout === undefined && !this.#old && !this.fourRights) {
      const shadow = (word & bit("direct")) === 0 && (word & role.LEVEL) >= LONG_MODE;
      if (shadow && (word & bit("cr4_pae")) !== 0) {
        this.#old = true;
        this.#known.clear();
      }
    }
    let known = this.#known.get(word);
    if (known === undefined) {
      known = role.tracedRole(this.usedLayout, word);
      this.#known.set(word, known);
    }
    return known;
  }

  /** How a kernel with these roles prints them. */
  get form(): role.RoleForm {
    const { era } = this.usedLayout;
    return era === "5.0" ? "pae" : era === "7.2" ? "four-rights" : "size";
  }

  /** The layout by which words are read: the kernel's own, or what the words themselves tell. */
  get usedLayout(): RoleLayout {
    if (this.layout !== undefined) return this.layout;
    if (this.fourRights) return FOUR_RIGHTS_LAYOUT;
    return this.#old ? OLD : NEWER;
  }

  /** Makes of an event's raw fields what its text says. */
  finish(kind: number, record: EventRecord): void {
    if (PAGE_EVENTS.has(kind)) {
      record.word = record.low[Slot.role]!;
      record.set(Slot.role, this.of(record.word), 0);
    } else if (kind === Kind.kvm_exit || kind === Kind.kvm_nested_vmexit) {
      const isa = record.number(Slot.isa);
      record.set(Slot.reason, EXITS[isa]?.[record.number(Slot.reason)] ?? ExitReason.Other, 0);
    } else if (kind === Kind.fast_page_fault) this.#returns.finish(record);
    else if (kind === Kind.kvm_mmu_spte_requested && record.has[Slot.access] === 1) this.fourRights = true;
  }
}
