/** One address space of an open dump: its registers, and what is known of its ranges. */

import { bitOf, PTE, PTE32 } from "x86-paging/abi";
import { type DumpRegisters, hiddenUsersRoot, type KernelRegion, kernelLayout, regionNamer } from "x86-paging/dump";
import { MappingScan, modeTitle, pagingModeOf } from "x86-paging/maps";
import type { RunningTask } from "../tasks.js";
import { addressOf } from "./addresses.js";
import type { Filter, ListAnswer, Order, Row, SpaceAnswer, SpaceMode } from "./answers.js";
import type { OpenedDump } from "./opened.js";
import { Ranges, type View, viewOf } from "./ranges.js";

/** More ranges are not kept: 100 MiB of them. */
export const MOST_RANGES = 4_000_000;
/** Entries that are looked at between two looks at the clock. */
const PIECE = 50_000;

export class Space {
  readonly opened: OpenedDump;
  readonly answer: SpaceAnswer;
  readonly registers: DumpRegisters;
  readonly mode: SpaceMode;
  ranges = new Ranges();
  list: ListAnswer | undefined;
  #view: View;
  readonly #regions: readonly KernelRegion[];
  readonly #regionAt: (va: bigint) => string | undefined;
  /** The dump has page tables alone: it says nothing that pages are not there. */
  #tablesOnly = false;
  /** Lists and views that were asked for: the last one is what is kept. */
  #lists = 0;
  #views = 0;

  constructor(opened: OpenedDump, answer: SpaceAnswer, regions: readonly KernelRegion[]) {
    this.opened = opened;
    this.answer = answer;
    this.registers = answer.registers;
    this.mode = answer.mode;
    this.#regions = regions;
    this.#regionAt = regionNamer(regions);
  }

  static async of(
    opened: OpenedDump,
    id: number,
    registers: DumpRegisters,
    start: bigint | undefined,
    task: RunningTask,
  ): Promise<Space> {
    const { dump } = opened.open;
    const mode = pagingModeOf(registers);
    const root = rootOf(registers, mode);
    const long = mode === "4level" || mode === "5level";
    const usersRoot = long
      ? await opened.read(task, () => hiddenUsersRoot(dump, root, mode, registers.encryptionMask))
      : undefined;
    const regions = long ? await opened.read(task, () => kernelLayout(dump, registers, mode)) : [];
    const title = modeTitle(mode);
    return new Space(opened, { id, dump: opened.id, registers, mode, title, root, usersRoot, start }, regions);
  }

  /** Lists ranges from an address on, as many as are kept. What was listed before stays until it is done. */
  async relist(from: bigint, most: number, task: RunningTask): Promise<ListAnswer> {
    const asked = ++this.#lists;
    const { tableSource, memory, tablesOnly } = this.opened.open.dump;
    const boundaries = this.#regions.flatMap(({ start, end }) => [start, end]);
    const scan = new MappingScan(tableSource, this.registers, { from, boundaries });
    const ranges = new Ranges();
    let ended = "whole" as ListAnswer["ended"];
    const visit = (va: number, pa: number, pages: number, level: number, rights: number) => {
      if (ranges.length < most) ranges.add(va, pa, pages, level, rights);
      else ended = "full";
    };
    try {
      while (await this.opened.read(task, () => scan.step(PIECE, visit))) {
        if (ended === "full") break;
        await task.turn(scan.done);
      }
    } catch (error) {
      if (!task.signal.aborted || this.opened.isClosed) throw error;
      ended = "stopped";
    }
    if (asked !== this.#lists) throw new DOMException("superseded", "AbortError");
    this.ranges = ranges;
    this.#view = undefined;
    const { excluded, cut } = memory.lacking;
    this.#tablesOnly =
      tablesOnly === true || (memory.held.bytes <= scan.tables * 4096 && excluded.bytes + cut.bytes === 0);
    const { missingTables, cyclic } = scan;
    this.list = { count: ranges.length, from, ended, missingTables, cyclic, mapped: ranges.pages * 4096 };
    return this.list;
  }

  /** Chooses and orders what `rows` gives. Returns how many there are. */
  async arrange(filters: readonly Filter[], order: Order, task: RunningTask): Promise<number> {
    const asked = ++this.#views;
    const { ranges } = this;
    const view = await viewOf(ranges, filters, order, task);
    if (asked !== this.#views || ranges !== this.ranges) throw new DOMException("superseded", "AbortError");
    this.#view = view;
    return this.shown;
  }

  /** Ranges that are shown. */
  get shown(): number {
    return this.#view?.length ?? this.ranges.length;
  }

  /** The range at a place of the list. */
  at(place: number): number {
    return this.#view === undefined ? place : this.#view[place]!;
  }

  /** `strict`: as it is, also of a dump that has tables alone. */
  row(place: number, strict = false): Row {
    const index = this.at(place);
    const { ranges } = this;
    const [va, pa, size] = [ranges.va(index), ranges.pa(index), ranges.size(index)].map(addressOf) as [
      bigint,
      bigint,
      bigint,
    ];
    return {
      va,
      pa,
      size,
      pageSize: this.pageSize(ranges.level(index)),
      rights: ranges.rights(index),
      presence: this.#tablesOnly && !strict ? "held" : this.opened.open.dump.presence(pa, size),
      region: this.#regionAt(va),
    };
  }

  rows(first: number, end: number): Row[] {
    const last = Math.min(end, this.shown);
    return Array.from({ length: Math.max(0, last - first) }, (_, index) => this.row(first + index));
  }

  pageSize(level: number): bigint {
    return 1n << BigInt(12 + (this.mode === "32bit" ? 10 : 9) * (level - 1));
  }
}

function rootOf({ cr3, encryptionMask }: DumpRegisters, mode: SpaceMode): bigint {
  const plain = cr3 & ~encryptionMask;
  if (mode === "4level" || mode === "5level") return plain & bitOf(PTE, "ADDRESS");
  if (mode === "pae") return plain & 0xffff_ffe0n;
  return plain & bitOf(PTE32, "ADDRESS");
}
