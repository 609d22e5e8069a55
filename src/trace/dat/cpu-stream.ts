/** The events of one processor in a trace.dat file, page by page. */

import { TraceError } from "../error.js";
import type { RandomAccess } from "../input/input.js";
import { Clock } from "./clock.js";
import { FileCursor } from "./file-cursor.js";
import { type CpuData, type DatHead, unpacked } from "./head.js";
import { RingPage } from "./ring-page.js";

/** Pages that are read at once. */
const AT_ONCE = 16;

export class CpuStream {
  readonly cpu: number;
  readonly page = new RingPage();
  /** Pages that contradict themselves. */
  brokenPages = 0;
  /** Events that were lost, as far as they were counted, and places where some were. */
  lost = 0;
  lostPlaces = 0;
  /** Why the data end before they should; undefined where they do not. */
  truncation: string | undefined;
  /** The next event's time, after the first event of all in ns; infinite at the end. */
  order = Number.POSITIVE_INFINITY;
  /** Events were lost where the stream is. */
  onLost: () => void = () => {};
  readonly #cursor: FileCursor;
  readonly #offset: number;
  readonly #head: DatHead;
  readonly #clock: Clock;
  readonly #unpack: CpuData["unpack"];
  /** Bytes in the file that are left, or pieces. */
  #left: number;
  #buffer: Uint8Array = new Uint8Array(0);
  #at = 0;
  #pageBase = -1n;
  /** The base of the page, after the first event of all. */
  #pageOrder = 0;
  #begun = false;

  constructor(file: RandomAccess, name: string, head: DatHead, { cpu, offset, size, unpack }: CpuData) {
    this.cpu = cpu;
    this.#head = head;
    this.#clock = new Clock(head);
    this.#unpack = unpack;
    this.#offset = offset;
    this.#cursor = new FileCursor(file, name, offset);
    const available = Math.max(0, file.size - offset);
    this.#left = Math.min(size, available);
    if (size > available)
      this.truncation = `processor ${cpu}: ${size} bytes of events were promised, ${available} are there`;
  }

  /** Bytes of the file that were taken. */
  get taken(): number {
    return this.#cursor.at - this.#offset;
  }

  /** Seconds of the event that the stream is at. */
  get time(): number {
    return this.#clock.at(this.page.delta);
  }

  /** Goes to the next event on the page; false where there is none, and `load` is needed. */
  next(origin: bigint): boolean {
    const { page } = this;
    if (!page.next()) {
      if (page.broken) this.brokenPages++;
      page.broken = false;
      return false;
    }
    if (page.base !== this.#pageBase) {
      this.#pageBase = page.base;
      this.#clock.base(page.base);
      this.#pageOrder = Number(page.base - origin);
    }
    this.order = this.#pageOrder + page.delta;
    return true;
  }

  /** Opens the next page; false at the end. */
  async load(): Promise<boolean> {
    const { pageSize, pageHeader } = this.#head;
    if (this.#at + pageSize > this.#buffer.length && !(await this.#refill())) {
      this.order = Number.POSITIVE_INFINITY;
      return false;
    }
    const { page } = this;
    page.open(this.#buffer.subarray(this.#at, this.#at + pageSize), pageHeader);
    this.#at += pageSize;
    this.#pageBase = -1n;
    if (page.missed !== 0) {
      this.onLost();
      this.lostPlaces++;
      this.lost += Math.max(0, page.missed);
    }
    return true;
  }

  /** Base of the page that is open. */
  get base(): bigint {
    return this.page.base;
  }

  async #refill(): Promise<boolean> {
    try {
      this.#buffer = this.#unpack === undefined ? await this.#pages() : await this.#piece(this.#unpack);
    } catch (error) {
      if (!(error instanceof TraceError)) throw error;
      this.truncation ??= error.message;
      this.#left = 0;
      return false;
    }
    this.#at = 0;
    return this.#buffer.length >= this.#head.pageSize;
  }

  async #pages(): Promise<Uint8Array> {
    const { pageSize } = this.#head;
    const length = Math.min(this.#left, AT_ONCE * pageSize);
    this.#left -= length;
    const whole = length - (length % pageSize);
    if (whole < length) this.truncation ??= `processor ${this.cpu}: the last page breaks off`;
    return whole === 0 ? new Uint8Array(0) : Uint8Array.from(await this.#cursor.bytes(whole, "a page of events"));
  }

  async #piece(unpack: NonNullable<CpuData["unpack"]>): Promise<Uint8Array> {
    if (this.#left === 0) return new Uint8Array(0);
    if (!this.#begun) {
      this.#begun = true;
      this.#left = await this.#cursor.u32("the number of pieces");
      if (this.#left === 0) return new Uint8Array(0);
    }
    this.#left--;
    const packedSize = await this.#cursor.u32("a piece's compressed size");
    const size = await this.#cursor.u32("a piece's size");
    return unpacked(this.#cursor, packedSize, size, unpack);
  }
}
