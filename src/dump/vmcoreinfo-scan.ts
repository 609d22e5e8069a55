/** Looks for VMCOREINFO in RAM, where no note has it. */
import type { Dump } from "./dump.js";
import { HeldPages } from "./held-pages.js";
import { mapsItself } from "./root-inspection.js";
import { kernelRoot } from "./vmcoreinfo.js";

const PAGE = 4096;
/** The kernel's page of it (vmcoreinfo_data) begins so. */
const FIRST_WORDS = new TextEncoder().encode("OSRELEASE=");

/** VMCOREINFO that was found in memory. */
export interface FoundVmcoreinfo {
  readonly text: string;
  /** Guest-physical address of the page. */
  readonly gpa: bigint;
}

/**
 * Goes through the pages that a dump holds, in pieces: `step` may be called again where it was interrupted. A page is
 * taken if the tables that it names map themselves: copies of the text and remains of older kernels do not.
 */
export class VmcoreinfoScan {
  readonly #dump: Dump;
  readonly #page = new Uint8Array(PAGE);
  readonly #pages: HeldPages;

  constructor(dump: Dump) {
    this.#dump = dump;
    this.#pages = new HeldPages(dump);
  }

  /** Pages that were looked at. */
  get done(): number {
    return this.#pages.done;
  }

  /** All of them. */
  get total(): number {
    return this.#pages.total;
  }

  /** Looks at so many pages. `finished` where there is no other. */
  step(pages: number): { readonly found?: FoundVmcoreinfo; readonly finished: boolean } {
    const { pageSource, tableSource } = this.#dump;
    for (let looked = 0; looked < pages; looked++) {
      const { frame } = this.#pages;
      if (frame === undefined) return { finished: true };
      if (pageSource.readPage(frame, this.#page) && this.#begins()) {
        const text = this.#text();
        const root = kernelRoot(text);
        if (root !== undefined && mapsItself(tableSource, root)) {
          return { found: { text, gpa: frame * 4096n }, finished: true };
        }
      }
      this.#pages.advance();
    }
    return { finished: false };
  }

  #begins(): boolean {
    return FIRST_WORDS.every((byte, index) => this.#page[index] === byte);
  }

  #text(): string {
    const end = this.#page.indexOf(0);
    return new TextDecoder("latin1").decode(end < 0 ? this.#page : this.#page.subarray(0, end));
  }
}
