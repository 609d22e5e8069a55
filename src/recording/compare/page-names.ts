/** Names of shadow pages that are the same on both sides of a comparison, where addresses are not. */
import { bitOf } from "../../abi/bits.js";
import { SPTE } from "../../abi/spte.js";
import { ROLE_GUEST_LEVEL, ROLE_PAE_ROOT } from "../../role/index.js";
import type { RecordedPage } from "../format/recording.js";
import type { ShadowPageState } from "../format/state.js";

/** Fields of this project's role word that 6.1 has no place for. */
const OWN_FIELDS = ROLE_PAE_ROOT | ROLE_GUEST_LEVEL;

/**
 * A role word of this project in the layout of Linux 6.1. level_promoted stays: it lies where 6.1 has passthrough,
 * which is the same thing for the one promotion (4 to 5 levels) that 6.1 makes with an ordinary page.
 */
export function recordedRole(role: number): number {
  return (role & ~OWN_FIELDS) >>> 0;
}

const ADDRESS_MASK = bitOf(SPTE, "ADDRESS");
const SPTE_MMU_PRESENT = bitOf(SPTE, "MMU_PRESENT");
const PAGE_SIZE_BIT = bitOf(SPTE, "PS");

type AnyPage = RecordedPage | ShadowPageState;

export function pageKey(page: { readonly gfn: bigint; readonly role: number }): string {
  return `gfn ${page.gfn.toString(16)} role ${recordedRole(page.role).toString(16)}`;
}

/**
 * Names shadow pages by (gfn, role) instead of by address: those of one state, or of the states before and after a
 * step. An address that two pages had in turn names neither.
 */
export class PageNames {
  readonly #names = new Map<bigint, string | undefined>();

  constructor(...states: readonly (readonly AnyPage[])[]) {
    for (const pages of states) {
      for (const page of pages) {
        const key = pageKey(page);
        this.#names.set(page.hpa, this.#names.has(page.hpa) && this.#names.get(page.hpa) !== key ? undefined : key);
      }
    }
  }

  /** Name of the page at `hpa`; undefined where none is known, or more than one. */
  name(hpa: bigint): string | undefined {
    return this.#names.get(hpa);
  }

  /** Whether this SPTE points at another table. */
  static isTable(spte: bigint, level: number): boolean {
    return level > 1 && (spte & SPTE_MMU_PRESENT) !== 0n && (spte & PAGE_SIZE_BIT) === 0n;
  }

  /** The page that a non-leaf SPTE points at, and its other bits. */
  table(spte: bigint): { readonly child: string | undefined; readonly bits: bigint } {
    return { child: this.name(spte & ADDRESS_MASK), bits: spte & ~ADDRESS_MASK };
  }
}
