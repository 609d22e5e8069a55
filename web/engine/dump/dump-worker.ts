/** What the dump's worker does for the page: it holds the open dump and one space of it, and answers about both. */
import type { InputFile } from "../served-file.js";
import { type TaskInput, Tasks } from "../tasks.js";
import { pageOf } from "./addresses.js";
import type {
  DumpAnswer,
  Filter,
  FindAnswer,
  ListAnswer,
  Order,
  PageAnswer,
  RawOptions,
  Row,
  SpaceAnswer,
  SpaceChoice,
  TableAnswer,
  WalkAnswer,
  WalkQuestion,
} from "./answers.js";
import { type ExportFormat, exportOf } from "./exporting.js";
import { findIn, findInAll, findSpaces, type ScannedSpaces } from "./finding.js";
import { openInput } from "./input.js";
import { OpenedDump } from "./opened.js";
import { registersOf } from "./registers.js";
import { MOST_RANGES, Space } from "./space.js";
import { tableAt } from "./tables.js";
import { pageAt, walkOf } from "./walking.js";

/** Ids of dumps and spaces begin at 1 and are never used again. What is asked of one that was followed by another is an AbortError. */
export class DumpWorker {
  readonly #tasks = new Tasks();
  readonly #mostRanges: number;
  #ids = 0;
  #opens = 0;
  #opened: OpenedDump | undefined;
  #space: Space | undefined;
  #spaces: ScannedSpaces | undefined;

  constructor({ mostRanges = MOST_RANGES } = {}) {
    this.#mostRanges = mostRanges;
  }

  cancel(id: number): void {
    this.#tasks.cancel(id);
  }

  /** Opens a dump in place of the one that is open, which stays where this fails or another is asked for meanwhile. */
  open(task: TaskInput, files: readonly InputFile[], raw: RawOptions): Promise<DumpAnswer> {
    const asked = ++this.#opens;
    return this.#tasks.run(task, async (running) => {
      const open = await openInput(files, raw, running);
      if (asked !== this.#opens) {
        open.dump.close();
        throw superseded();
      }
      this.#opened?.close();
      this.#opened = new OpenedDump(++this.#ids, open);
      this.#space = undefined;
      this.#spaces = undefined;
      return this.#opened.answer();
    });
  }

  /** Chooses a space in place of the one before, which stays where this fails. */
  choose(task: TaskInput, dump: number, choice: SpaceChoice): Promise<SpaceAnswer> {
    const asked = ++this.#ids;
    return this.#tasks.run(task, async (running) => {
      const opened = this.#dumpOf(dump);
      const registers = await registersOf(opened.open, choice, running);
      const cpu = choice.cr3 === undefined ? opened.open.dump.cpus[choice.cpu ?? 0] : undefined;
      const space = await Space.of(opened, asked, registers, cpu?.rip, running);
      this.#dumpOf(dump);
      if ((this.#space?.answer.id ?? 0) > asked) throw superseded();
      this.#space = space;
      return space.answer;
    });
  }

  spaces(task: TaskInput, dump: number): Promise<ScannedSpaces> {
    return this.#tasks.run(task, async (running) => {
      const opened = this.#dumpOf(dump);
      const found = await findSpaces(opened, this.#space, running);
      this.#dumpOf(dump);
      this.#spaces = found;
      return found;
    });
  }

  list(task: TaskInput, space: number, from = 0n): Promise<ListAnswer> {
    return this.#tasks.run(task, (running) => this.#spaceOf(space).relist(from, this.#mostRanges, running));
  }

  arrange(task: TaskInput, space: number, filters: readonly Filter[], order: Order): Promise<number> {
    return this.#tasks.run(task, (running) => this.#spaceOf(space).arrange(filters, order, running));
  }

  rows(space: number, first: number, end: number): readonly Row[] {
    return this.#spaceOf(space).rows(first, end);
  }

  /**
   * The place in the list of the range that has an address, else of the next one; or, by physical address, of the first behind `after`
   * that has it, and then from the beginning. Undefined where there is none.
   */
  locate(
    task: TaskInput,
    space: number,
    by: "virtual" | "physical",
    address: bigint,
    after = -1,
  ): Promise<number | undefined> {
    return this.#tasks.run(task, async (running) => {
      const searched = this.#spaceOf(space);
      const { ranges, shown } = searched;
      const page = pageOf(address);
      let [best, bestVa] = [undefined as number | undefined, Number.POSITIVE_INFINITY];
      for (let step = 0; step < shown; step++) {
        if (step % 65_536 === 0) await running.turn(step / shown);
        const place = by === "physical" ? (after + 1 + step) % shown : step;
        const index = searched.at(place);
        const start = by === "physical" ? ranges.pa(index) : ranges.va(index);
        const end = start + ranges.size(index);
        if (page >= start && page < end) return place;
        if (by === "virtual" && start > page && start < bestVa) [best, bestVa] = [place, start];
      }
      return best;
    });
  }

  table(task: TaskInput, space: number, path: readonly number[]): Promise<TableAnswer> {
    return this.#tasks.run(task, (running) => tableAt(this.#spaceOf(space), path, running));
  }

  walk(space: number, question: WalkQuestion): Promise<WalkAnswer> {
    return walkOf(this.#spaceOf(space), question);
  }

  page(space: number, address: bigint): Promise<PageAnswer> {
    return pageAt(this.#spaceOf(space), address);
  }

  /** `everywhere`: in all spaces, which are looked for first where they are not known. */
  find(task: TaskInput, space: number, pa: bigint, everywhere: boolean): Promise<FindAnswer> {
    return this.#tasks.run(task, async (running) => {
      const searched = this.#spaceOf(space);
      const { opened } = searched;
      if (!everywhere) return findIn(searched, pa, running);
      const spaces = this.#spaces ?? (await findSpaces(opened, searched, running));
      this.#spaceOf(space);
      this.#spaces = spaces;
      return findInAll(opened, spaces, pa, running);
    });
  }

  /** The list as it is shown. */
  export(task: TaskInput, space: number, format: ExportFormat): Promise<Blob> {
    return this.#tasks.run(task, (running) => exportOf(this.#spaceOf(space), format, running));
  }

  #dumpOf(id: number): OpenedDump {
    if (this.#opened?.id !== id) throw superseded();
    return this.#opened;
  }

  #spaceOf(id: number): Space {
    if (this.#space?.answer.id !== id) throw superseded();
    return this.#space;
  }
}

function superseded(): DOMException {
  return new DOMException("another one was opened", "AbortError");
}
