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

export class Host implements HostMemory {
  readonly regions: Region[] = [];
  /** Host-virtual pages that the host lets nobody write before it has copied them (merged or copy-on-write pages). */
  readonly #shared = new Set<bigint>();
  readonly #moves = new Map<bigint, number>();
  /** Called once, after the next look-up: the host changes its mind while a fault is under way. */
  interrupt: (() => void) | undefined;

  add(region: Region): void {
    this.regions.push(region);
  }

  #regionOf(hva: bigint): Region {
    return this.regions.find((one) => hva >= one.hva && hva < one.hva + (BigInt(one.pages) << 12n))!;
  }

  /** First address of the page that the host maps as one. */
  #block(hva: bigint): bigint {
    return this.#regionOf(hva).level === 2 ? hva & ~0x1f_ffffn : hva & ~0xfffn;
  }

  /** The frame number behind `hva` now. */
  frame(hva: bigint): bigint {
    const region = this.#regionOf(hva);
    const moves = BigInt((this.#moves.get(this.#block(hva)) ?? 0) % GENERATIONS);
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
    const size = this.#regionOf(start).level === 2 ? 0x20_0000n : 0x1000n;
    let at = first;
    for (; at < end; at += size) this.#moves.set(at, (this.#moves.get(at) ?? 0) + 1);
    return [first, at];
  }

  /** A small page gets another frame that only a write makes its own. */
  share(hva: bigint): HostPage {
    this.move(hva, hva + 1n);
    this.#shared.add(hva & ~0xfffn);
    return { pfn: this.frame(hva), writable: false, level: 1 };
  }

  pin(hva: bigint, write: boolean): HostPage {
    if (write && this.#shared.delete(hva & ~0xfffn)) {
      // Copied: readers have to see the new frame too.
      this.onCopy?.(...this.move(hva, hva + 1n));
    }
    const page = { pfn: this.frame(hva), writable: !this.isShared(hva), level: this.#regionOf(hva).level };
    const { interrupt } = this;
    this.interrupt = undefined;
    interrupt?.();
    return page;
  }

  /** Tells the VM that a shared page was copied (an invalidation). */
  onCopy: ((start: bigint, end: bigint) => void) | undefined;

  peek(hva: bigint): HostPage | undefined {
    if (this.isShared(hva)) return undefined;
    return { pfn: this.frame(hva), writable: true, level: this.#regionOf(hva).level };
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
