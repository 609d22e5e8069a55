/** The events of one page of the kernel's ring buffer, in order. */
import { bitOf, fieldOf, maskOf } from "../../abi/bits.js";
import { RING_COMMIT, RING_EVENT, RING_TYPE } from "../../abi/ring-buffer.js";

/** Where a page's header has what; of header_page, `field: local_t commit; offset:8; size:8;`. */
export interface PageHeader {
  readonly commitOffset: number;
  readonly commitSize: number;
  readonly dataOffset: number;
}

export const PAGE_HEADER_64: PageHeader = { commitOffset: 8, commitSize: 8, dataOffset: 16 };

const TYPE = Number(maskOf(fieldOf(RING_EVENT, "TYPE_LEN")));
const DELTA_SHIFT = fieldOf(RING_EVENT, "TIME_DELTA").low;
/** A unit of a time extend's second word. */
const EXTEND = 2 ** fieldOf(RING_EVENT, "TIME_DELTA").width!;
const SIZE = Number(maskOf(fieldOf(RING_COMMIT, "SIZE")));
const MISSED = Number(bitOf(RING_COMMIT, "MISSED_EVENTS"));
const STORED = Number(bitOf(RING_COMMIT, "MISSED_STORED"));
const WORD = 4;
/** An absolute time has so many bits; those above are the page's. */
const STAMP = 2n ** 59n;

/** Goes through a page; the fields are those of the event that `next` came to. */
export class RingPage {
  /** Time of the page, in ns; events are so many ns later. */
  base = 0n;
  delta = 0;
  /** Where the event's data begins, and its length. */
  dataFrom = 0;
  dataLength = 0;
  /** Events that were lost before the page: -1 an unknown number. */
  missed = 0;
  /** The page contradicts itself: what is behind is given up. */
  broken = false;
  view: DataView = new DataView(new ArrayBuffer(0));
  #at = 0;
  #end = 0;

  /** Begins with the page at `bytes`. */
  open(bytes: Uint8Array, { commitOffset, dataOffset }: PageHeader): void {
    this.broken = false;
    this.missed = 0;
    this.delta = 0;
    this.#at = 0;
    this.#end = 0;
    if (bytes.length < dataOffset) {
      this.broken = true;
      return;
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.view = view;
    this.base = view.getBigUint64(0, true);
    const commit = view.getUint32(commitOffset, true);
    const size = commit % (SIZE + 1);
    this.#at = dataOffset;
    this.#end = dataOffset + size;
    if (this.#end > bytes.length) {
      this.broken = true;
      this.#end = bytes.length;
    }
    if ((commit & MISSED) === 0) return;
    const stored = (commit & STORED) !== 0 && this.#end + 8 <= bytes.length;
    this.missed = stored ? Number(view.getBigUint64(this.#end, true)) : -1;
  }

  /** The next event; false at the end of the page. */
  next(): boolean {
    const { view } = this;
    while (this.#at + WORD <= this.#end) {
      const header = view.getUint32(this.#at, true);
      const type = header & TYPE;
      const delta = header >>> DELTA_SHIFT;
      const words = this.#at + WORD;
      if (type > 0 && type < RING_TYPE.Padding) {
        this.delta += delta;
        return this.#event(words, type * WORD);
      }
      if (words + WORD > this.#end) return this.#giveUp();
      const value = view.getUint32(words, true);
      if (type === 0) {
        this.delta += delta;
        if (value < WORD) return this.#giveUp();
        return this.#event(words + WORD, value - WORD);
      }
      if (type === RING_TYPE.Padding) {
        // Nothing more on the page; else an event that was discarded.
        if (delta === 0) return false;
        this.delta += delta;
        this.#at = words + value;
      } else {
        if (type === RING_TYPE.TimeExtend) this.delta += delta + value * EXTEND;
        else this.#stamp(BigInt(value) * BigInt(EXTEND) + BigInt(delta));
        this.#at = words + WORD;
      }
    }
    return false;
  }

  #event(from: number, length: number): boolean {
    if (from + length > this.#end) return this.#giveUp();
    this.dataFrom = from;
    this.dataLength = length;
    this.#at = from + length;
    return true;
  }

  #giveUp(): false {
    this.broken = true;
    this.#at = this.#end;
    return false;
  }

  /** An absolute time: the page's stays the base of the events behind. */
  #stamp(time: bigint): void {
    this.base = (this.base / STAMP) * STAMP + time;
    this.delta = 0;
  }
}
