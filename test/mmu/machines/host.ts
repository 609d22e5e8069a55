/**
 * The host below a VM: RAM in linear memory and, behind each host-virtual page, a frame. Whenever the host takes a page away
 * the page gets another frame with the same contents, so an entry that still leads to the old one is found out.
 */
import type { HostMemory, HostPage } from "../../../src/mmu/index.js";

export interface Region {
  readonly hva: bigint;
  /** Linear address. */
  readonly ram: number;
  readonly pages: number;
  /** The host maps it by pages of 4 KiB (1) or 2 MiB (2). */
  readonly level: 1 | 2;
}

/** Host-physical memory as the judge sees it: everything lies here, the shadow tables below. */
const FRAMES_AT = 1n << 33n;
/** Frames of one region and one generation. */
const STRIDE = 1n << 28n;
/** A page comes back to its first frame after that many moves. */
const GENERATIONS = 8;
const LARGE_MASK = ~0x1f_ffffn;
/** Small pages and the large ones that begin at the same address move apart. */
const smallKey = (hva: bigint) => (hva & ~0xfffn) + 1n;

export class Host implements HostMemory {
  readonly regions: Region[] = [];
  /** Host-virtual pages that the host lets nobody write before it has copied them (merged or copy-on-write pages). */
  readonly #shared = new Set<bigint>();
  readonly #moves = new Map<bigint, number>();
  /** First addresses of large pages that the host has split into small ones. */
  readonly #split = new Set<bigint>();
  /** Called once, after the next look-up: the host changes its mind while a fault is under way. */
  interrupt: (() => void) | undefined;

  add(region: Region): void {
    this.regions.push(region);
  }

  #regionOf(hva: bigint): Region {
    return this.regions.find((one) => hva >= one.hva && hva < one.hva + (BigInt(one.pages) << 12n))!;
  }

  /** How large the host's own page behind `hva` is now. */
  level(hva: bigint): 1 | 2 {
    return this.#regionOf(hva).level === 2 && !this.#split.has(hva & LARGE_MASK) ? 2 : 1;
  }

  /** First address of the page that the host maps as one. */
  #block(hva: bigint): bigint {
    return this.level(hva) === 2 ? hva & LARGE_MASK : hva & ~0xfffn;
  }

  /** The frame number behind `hva` now. */
  frame(hva: bigint): bigint {
    const region = this.#regionOf(hva);
    // A small page of a split one has moved with it, and then by itself.
    const large = region.level === 2 ? (this.#moves.get(hva & LARGE_MASK) ?? 0) : 0;
    const small = this.level(hva) === 2 ? 0 : (this.#moves.get(smallKey(hva)) ?? 0);
    const moves = BigInt((large + small) % GENERATIONS);
    const at = FRAMES_AT + STRIDE * (BigInt(this.regions.indexOf(region)) * BigInt(GENERATIONS) + moves);
    return (at + (hva - region.hva)) >> 12n;
  }

  /** Host-virtual address of a frame that is behind it now; undefined for frames that the host took away, and others. */
  hvaOf(pa: bigint): bigint | undefined {
    const at = (pa - FRAMES_AT) / STRIDE;
    const region = pa < FRAMES_AT ? undefined : this.regions[Number(at / BigInt(GENERATIONS))];
    if (region === undefined) return undefined;
    const hva = region.hva + ((pa - FRAMES_AT) % STRIDE);
    return hva < region.hva + (BigInt(region.pages) << 12n) && this.frame(hva) === pa >> 12n ? hva : undefined;
  }

  isShared(hva: bigint): boolean {
    return this.#shared.has(hva & ~0xfffn);
  }

  /** The host has another frame behind every page of the range from now on. Returns the range, grown to whole pages. */
  move(start: bigint, end: bigint): [start: bigint, end: bigint] {
    const first = this.#block(start);
    const { hva, pages } = this.#regionOf(start);
    let at = first;
    while (at < end && at < hva + (BigInt(pages) << 12n)) {
      const key = this.level(at) === 2 ? at : smallKey(at);
      this.#moves.set(key, (this.#moves.get(key) ?? 0) + 1);
      at += this.level(at) === 2 ? 0x20_0000n : 0x1000n;
    }
    return [first, at];
  }

  /**
   * A large page becomes small ones in the same frames, or small ones become a large page in other frames. Returns the
   * range, which the host takes away for that.
   */
  resize(hva: bigint): [start: bigint, end: bigint] {
    const first = hva & LARGE_MASK;
    if (this.#regionOf(hva).level !== 2) return [hva & ~0xfffn, (hva & ~0xfffn) + 0x1000n];
    if (!this.#split.has(first)) this.#split.add(first);
    else {
      this.#split.delete(first);
      for (let at = first; at < first + 0x20_0000n; at += 0x1000n) {
        this.#moves.delete(smallKey(at));
        this.#shared.delete(at);
      }
      this.move(first, first + 1n);
    }
    return [first, first + 0x20_0000n];
  }

  /** A page gets another frame that only a write makes its own; a large one around it is split for that. */
  share(hva: bigint): HostPage {
    if (this.level(hva) === 2) this.#split.add(hva & LARGE_MASK);
    this.move(hva, hva + 1n);
    this.#shared.add(hva & ~0xfffn);
    return { pfn: this.frame(hva), writable: false, level: 1 };
  }

  pin(hva: bigint, write: boolean): HostPage {
    if (write && this.#shared.delete(hva & ~0xfffn)) {
      // Copied: readers have to see the new frame too.
      this.onCopy?.(...this.move(hva, hva + 1n));
    }
    const page = { pfn: this.frame(hva), writable: !this.isShared(hva), level: this.level(hva) };
    const { interrupt } = this;
    this.interrupt = undefined;
    interrupt?.();
    return page;
  }

  /** Tells the VM that a shared page was copied (an invalidation). */
  onCopy: ((start: bigint, end: bigint) => void) | undefined;

  peek(hva: bigint): HostPage | undefined {
    if (this.isShared(hva)) return undefined;
    return { pfn: this.frame(hva), writable: true, level: this.level(hva) };
  }

  /** Host-physical slots for a walk: linear memory of `size` bytes twice (low zone and normal zone), then the frames. */
  slots(size: number): { gpa: bigint; size: number; linear: number; window?: boolean }[] {
    const tables = [0n, 1n << 32n].map((gpa) => ({ gpa, size, linear: 0, window: true }));
    const frames = this.regions.flatMap(({ ram, pages }, i) =>
      Array.from({ length: GENERATIONS }, (_, moves) => ({
        gpa: FRAMES_AT + STRIDE * BigInt(i * GENERATIONS + moves),
        size: pages * 4096,
        linear: ram,
      })),
    );
    return [...tables, ...frames];
  }
}
