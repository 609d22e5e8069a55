/** A trace.dat file, as a source: the events of all processors, in the order of their times. */
import type { TraceAnalysis } from "./analysis.js";
import { CpuStream } from "./dat/cpu-stream.js";
import { decodeFields, type EventFormat } from "./dat/event-format.js";
import { type DatHead, readHead } from "./dat/head.js";
import { releaseIn } from "./era.js";
import { Kind } from "./events/kinds.js";
import { printBody } from "./events/print.js";
import { EventRecord } from "./events/record.js";
import type { OpenedTrace, RandomAccess } from "./input/input.js";
import { readText } from "./read-text.js";
import type { TraceSource } from "./source.js";

/** Events between two reports of progress. */
const STEP = 2 ** 14;

export interface DatOptions {
  readonly name: string;
  readonly onProgress?: (bytes: number) => void;
}

/** Reads all of a file into the analysis. Throws a TraceError where its head cannot be read. */
export async function readDat(
  opened: Extract<OpenedTrace, { kind: "dat" }>,
  analysis: TraceAnalysis,
  options: DatOptions,
): Promise<Omit<TraceSource, "truncations"> & { readonly truncations: string[] }> {
  const { file } = opened;
  const head = await readHead(file, options.name);
  const release = head.uname === undefined ? undefined : releaseIn(head.uname);
  if (release === undefined) analysis.useRoles(head.era.roles);
  analysis.useKernel(release);
  for (const { returns } of head.formats.values()) if (returns !== undefined) analysis.returns.numbers = returns;
  if (head.text !== undefined) {
    const source = await readText({ kind: "text", chunks: part(file, head.text), packed: opened.packed }, analysis);
    return { ...source, release: source.release ?? release, format: "trace.dat" };
  }
  const reader = new DatReader(file, head, analysis, options);
  await reader.read();
  return { ...reader.source(), packed: opened.packed, release: head.uname, formats: head.era };
}

async function* part(file: RandomAccess, { offset, size }: NonNullable<DatHead["text"]>): AsyncGenerator<Uint8Array> {
  const piece = 2 ** 20;
  for (let at = offset; at < offset + size && at < file.size; at += piece) {
    yield await file.read(at, Math.min(piece, offset + size - at));
  }
}

class DatReader {
  readonly #streams: CpuStream[];
  readonly #head: DatHead;
  readonly #analysis: TraceAnalysis;
  readonly #options: DatOptions;
  readonly #record = new EventRecord();
  readonly #counts = new Map<EventFormat, number>();
  #number = 0;
  #events = 0;
  #unknown = 0;
  #short = 0;

  constructor(file: RandomAccess, head: DatHead, analysis: TraceAnalysis, options: DatOptions) {
    this.#head = head;
    this.#analysis = analysis;
    this.#options = options;
    this.#streams = head.cpus.map((cpu) => new CpuStream(file, options.name, head, cpu));
    for (const stream of this.#streams) stream.onLost = () => analysis.lost();
    this.#record.source = { textOf: (record) => this.#textOf(record) };
  }

  /** Takes the earliest event of all processors, again and again. */
  async read(): Promise<void> {
    const live: CpuStream[] = [];
    for (const stream of this.#streams) if (await stream.load()) live.push(stream);
    let origin = live[0]?.base ?? 0n;
    for (const { base } of live) if (base < origin) origin = base;
    const advance = async (stream: CpuStream): Promise<boolean> => {
      while (!stream.next(origin)) if (!(await stream.load())) return false;
      return true;
    };
    for (let i = live.length - 1; i >= 0; i--) if (!(await advance(live[i]!))) live.splice(i, 1);
    while (live.length > 0) {
      let first = live[0]!;
      let second = Number.POSITIVE_INFINITY;
      for (let i = 1; i < live.length; i++) {
        const stream = live[i]!;
        if (stream.order < first.order) {
          second = first.order;
          first = stream;
        } else if (stream.order < second) second = stream.order;
      }
      // The same processor's events go on until another's is earlier.
      do {
        this.#take(first);
        if (first.next(origin)) continue;
        if (!(await this.#more(first, origin))) {
          live.splice(live.indexOf(first), 1);
          break;
        }
      } while (first.order < second);
    }
  }

  async #more(stream: CpuStream, origin: bigint): Promise<boolean> {
    do {
      if (!(await stream.load())) return false;
    } while (!stream.next(origin));
    return true;
  }

  #take(stream: CpuStream): void {
    const { page } = stream;
    this.#number++;
    if (this.#number % STEP === 0) this.#progress();
    const { view, dataFrom, dataLength } = page;
    const format = dataLength < 2 ? undefined : this.#head.formats.get(view.getUint16(dataFrom, true));
    if (format === undefined) {
      this.#unknown++;
      return;
    }
    this.#counts.set(format, (this.#counts.get(format) ?? 0) + 1);
    if (format.kind === Kind.other) return;
    if (dataLength < format.size) {
      this.#short++;
      return;
    }
    const record = this.#record;
    decodeFields(format, view, dataFrom, record);
    record.kind = format.kind;
    record.line = this.#number;
    record.cpu = stream.cpu;
    record.pid = view.getInt32(dataFrom + format.pidOffset, true);
    record.time = stream.time;
    this.#analysis.roles.finish(format.kind, record);
    this.#events++;
    this.#analysis.take(record);
  }

  #progress(): void {
    const { onProgress } = this.#options;
    if (onProgress === undefined) return;
    onProgress(this.#streams.reduce((sum, { taken }) => sum + taken, 0));
  }

  #textOf(record: EventRecord): string {
    const command = this.#head.commands.get(record.pid) ?? "<...>";
    const cpu = String(record.cpu).padStart(3, "0");
    return `${command}-${record.pid} [${cpu}] ${record.time.toFixed(6)}: ${printBody(record, this.#analysis.form)}`;
  }

  source(): Omit<TraceSource, "truncations" | "packed" | "release"> & { readonly truncations: string[] } {
    const others = [...this.#counts].filter(([{ kind }]) => kind === Kind.other).sort(([, a], [, b]) => b - a);
    const sum = (of: (stream: CpuStream) => number) => this.#streams.reduce((all, stream) => all + of(stream), 0);
    const broken = sum(({ brokenPages }) => brokenPages);
    const damage: string[] = [];
    if (broken > 0) damage.push(`${broken} pages of events contradict themselves: what is behind on them is missing`);
    if (this.#short > 0) damage.push(`${this.#short} events are shorter than their formats say`);
    return {
      format: "trace.dat",
      lines: this.#number,
      events: this.#events,
      otherEvents: {
        ...Object.fromEntries(others.map(([{ name }, events]) => [name, events])),
        ...(this.#unknown > 0 && { "(without a format)": this.#unknown }),
      },
      unreadable: this.#short,
      samples: [],
      lost: sum(({ lost }) => lost),
      lostPlaces: sum(({ lostPlaces }) => lostPlaces),
      overwritten: this.#head.overrun,
      announced: undefined,
      present: this.#number,
      truncations: this.#streams.flatMap(({ truncation }) => (truncation === undefined ? [] : [truncation])),
      damage,
    };
  }
}
