/**
 * What a step of a recording shows, as lines of text in which nothing names the host: shadow pages go by (gfn, role), an
 * SPTE of a page of memory says its rights and not where the page lies, results go by name. Lines of two recordings of one
 * scenario are equal where guest, events and state are.
 */
import type { Kernel } from "../../abi/kernel-rules.js";
import { ROLE_LEVEL, roleTraceText } from "../../role/index.js";
import { decodeSpte, type SpteFormat, type SpteMasks } from "../../spte/index.js";
import { PageNames, pageKey } from "../compare/page-names.js";
import { EVENTS, type FieldKind, isProbeEvent, isTraceEvent, type RecordedEvent } from "../format/events.js";
import { faultReturnName } from "../format/fault-return.js";
import type { RecordedContext, RecordedPage, RecordingConfig, Snapshot, Step } from "../format/recording.js";
import { HANDLER_RETURNS } from "../world/fault-result.js";

/** The lines of one step. */
export interface StepLines {
  /** What the guest and the VMM saw. */
  readonly answers: readonly string[];
  /** In order: tracepoints, and probes where they were asked for. */
  readonly events: readonly string[];
  /** The state after the step, in no order. */
  readonly state: readonly string[];
}

/** What of a step becomes lines. */
export interface StepLinesOptions {
  /** Probes too, which not every recorder has. */
  readonly probes?: boolean;
}

const INVALID = 0xffff_ffff_ffff_ffffn;

const hex = (value: bigint | number): string => value.toString(16);

export class StepText {
  readonly #kernel: Kernel;
  readonly #format: SpteFormat;
  readonly #masks: SpteMasks;
  readonly #pageOffset: bigint;
  readonly #probes: boolean;
  #names = new PageNames();

  constructor(config: RecordingConfig, options: StepLinesOptions = {}) {
    const { kernel, masks, ept, npt, pageOffset } = config;
    this.#kernel = kernel;
    this.#format = formatOf({ ept, npt });
    this.#masks = { ...masks, mmio: masks.mmioMask, lowerGfn: masks.nonpresentOrRsvdLowerGfn };
    this.#pageOffset = pageOffset;
    this.#probes = options.probes ?? false;
  }

  /** The lines of `step`; `before` is the snapshot of the step before it, where there is one. */
  lines(step: Step, before: Snapshot | undefined): StepLines {
    this.#names = new PageNames(before?.pages ?? [], step.snapshot.pages);
    return {
      answers: [...answerLines(step)],
      events: step.events.filter((event) => this.#isShown(event)).map((event) => this.#event(event)),
      state: [...this.#state(step.snapshot)],
    };
  }

  #isShown({ ev }: RecordedEvent): boolean {
    return isTraceEvent(ev) || HANDLER_RETURNS.has(ev) || (this.#probes && isProbeEvent(ev));
  }

  #event(event: RecordedEvent): string {
    const values = event as unknown as Readonly<Record<string, bigint | number | string>>;
    const kinds: Readonly<Record<string, FieldKind>> = EVENTS[event.ev];
    const level = typeof values.level === "number" ? values.level : undefined;
    const fields = Object.entries(kinds).flatMap(([field, kind]) => {
      const text = this.#field(event.ev, field, kind, values[field]!, level);
      return text === undefined ? [] : [`${field} ${text}`];
    });
    return [event.ev, ...fields].join(" ");
  }

  /** Undefined for what is another host's, or another kernel's way of saying the same. */
  #field(
    ev: string,
    field: string,
    kind: FieldKind,
    value: bigint | number | string,
    level: number | undefined,
  ): string | undefined {
    if (typeof value === "string") return value;
    switch (kind) {
      case "pointer":
      case "rip":
        return undefined;
      case "spte":
        return this.#spte(BigInt(value), level);
      case "sptepPa":
        return this.#entry(BigInt(value));
      case "sptep":
        return this.#entry(BigInt(value) - this.#pageOffset);
      case "rootHpa":
        return this.#names.name(BigInt(value));
      default:
        if (field === "pfn") return undefined;
        if (field === "role") return roleText(Number(value));
        if (field === "ret" && (HANDLER_RETURNS.has(ev) || ev === "fast_page_fault"))
          return this.#returned(Number(value));
        return hex(value);
    }
  }

  #returned(code: number): string {
    return faultReturnName(this.#kernel, code) ?? String(code);
  }

  /** Where an SPTE is: its page, where a snapshot has it, and its index. */
  #entry(pa: bigint): string {
    const page = this.#names.name(pa & ~0xfffn);
    const index = (pa & 0xfffn) >> 3n;
    return page === undefined ? `[${index}]` : `${page} [${index}]`;
  }

  #spte(word: bigint, level: number | undefined): string {
    const decoded = decodeSpte(word, {
      kernel: this.#kernel,
      format: this.#format,
      masks: this.#masks,
      ...(level !== undefined && { level }),
    });
    const { kind, rights, mmio, fields, address } = decoded;
    const parts: string[] = [kind === "removed" ? "frozen" : kind];
    if (rights !== undefined) {
      const { read, write, execute, user } = rights;
      parts.push(`${read ? "r" : "-"}${write ? "w" : "-"}${execute ? "x" : "-"}${user ? "u" : "-"}`);
    }
    if (mmio !== undefined) parts.push(`gfn ${hex(mmio.gfn)} generation ${mmio.generation}`);
    const names = fields.filter(({ name }) => name !== "ADDRESS").map(({ name, value }) => nameOf(name, value));
    if (names.length > 0) parts.push(`(${names.join(" ")})`);
    const child = kind === "non-leaf" && address !== undefined ? this.#names.name(address) : undefined;
    if (child !== undefined) parts.push(`to ${child}`);
    return parts.join(" ");
  }

  *#state(snapshot: Snapshot): IterableIterator<string> {
    yield `uses ${snapshot.active}, walks by ${snapshot.walking}`;
    yield `pages in use ${snapshot.usedPages}`;
    for (const name of ["rootMmu", "guestMmu", "nestedMmu"] as const) {
      const context = snapshot[name];
      if (context !== undefined) yield* this.#context(name, context);
    }
    for (const page of snapshot.pages) yield* this.#page(page);
  }

  *#context(name: string, context: RecordedContext): IterableIterator<string> {
    yield `${name} cpu role ${hex(context.cpuRole)}`;
    yield `${name} root role ${hex(context.rootRole)} (${roleTraceText(context.rootRole)})`;
    yield `${name} root ${this.#root(context.rootHpa)}`;
    for (const [index, { hpa }] of context.previousRoots.entries()) {
      if (!isNone(hpa)) yield `${name} previous root ${index}: ${this.#root(hpa)}`;
    }
  }

  #root(hpa: bigint): string {
    return isNone(hpa) ? "none" : (this.#names.name(hpa) ?? "a special one, or one that is gone");
  }

  *#page(page: RecordedPage): IterableIterator<string> {
    const name = pageKey(page);
    const marks = [
      page.unsync ? "unsync" : "",
      page.unsyncChildren > 0 ? `${page.unsyncChildren} unsync children` : "",
      page.nxHugePageDisallowed ? "nx_huge_page_disallowed" : "",
      page.tdp ? "TDP MMU" : "",
    ].filter((mark) => mark !== "");
    yield [`${name} (${roleTraceText(page.role)})`, `root count ${page.rootCount}`, ...marks].join(", ");
    const level = page.role & ROLE_LEVEL;
    for (const [index, spte] of page.entries) yield `${name} [${index}] ${this.#spte(spte, level)}`;
  }
}

/** No root; a context that was never used has 0. */
function isNone(hpa: bigint): boolean {
  return hpa === INVALID || hpa === 0n;
}

function formatOf({ ept, npt }: Pick<RecordingConfig, "ept" | "npt">): SpteFormat {
  return ept ? "ept" : npt ? "npt" : "shadow";
}

function roleText(role: number): string {
  return `${hex(role)} (${roleTraceText(role)})`;
}

function nameOf(name: string, value: bigint): string {
  return value === 1n ? name : `${name}=${value}`;
}

function objectText(value: object): string {
  return JSON.stringify(value, (name, item: unknown) => {
    if (name === "hva") return undefined;
    return typeof item === "bigint" ? hex(item) : item;
  });
}

function* answerLines(step: Step): IterableIterator<string> {
  // What the VMM asked for belongs to the step's name only by its kind. Where its memory lies is another host's.
  for (const input of step.inputs) yield `asked ${objectText(input)}`;
  for (const answer of step.answers) yield `${answer.kind} ${objectText(answer)}`;
  if (step.kind === "vmm") return;
  const { result, exception, memoryChanges, mmio, post } = step;
  yield `ends as ${result}`;
  if (exception !== undefined) {
    yield `exception ${exception.vector}, error code ${hex(exception.errorCode)}, CR2 ${hex(exception.cr2)}`;
  }
  for (const name of ["cr0", "cr3", "cr4", "efer"] as const) yield `${name} ${hex(post[name])}`;
  for (const { gpa, before, after } of memoryChanges) yield `memory ${hex(gpa)}: ${hex(before)} -> ${hex(after)}`;
  for (const gpa of mmio) yield `MMIO exit at ${hex(gpa)}`;
}
