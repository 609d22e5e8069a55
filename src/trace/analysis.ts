/** Analyses a trace: follows its events, and makes the report. */
import { formatOf, formOf, isBefore51, isBefore517, kernelOf, layoutsIn, roleLayoutOf } from "./era.js";
import { BodyParser } from "./events/body-parser.js";
import { FaultReturns } from "./events/fault-returns.js";
import { EventRecord } from "./events/record.js";
import type { RoleForm } from "./events/role.js";
import { PluginRoles } from "./events/role-text.js";
import { EventFilter, type TraceFilter } from "./filter.js";
import { Detectors } from "./findings/detectors.js";
import { Model } from "./model/model.js";
import type { Page } from "./model/pages.js";
import { Summary } from "./model/summary.js";
import type { PageRow, TraceReport } from "./report.js";
import type { TraceSource } from "./source.js";
import { pageRows, roleRows, rootRows } from "./tables.js";
import { TimeOrder } from "./time-order.js";
import { warningsOf } from "./warnings.js";

/** No physical address has more bits. */
const MOST_PHYSICAL_BITS = 52;

/** What is known of the trace, and what of it is asked. */
export interface TraceOptions extends TraceFilter {
  /** Of what is read, for messages. Default "trace". */
  readonly name?: string;
  /** The kernel's release, or "mainline"; default: what the file says, or its events show. */
  readonly kernel?: string;
  /** Physical-address bits of the host (MAXPHYADDR, less those of encryption), 32 to 52: entries' bits above are reserved. */
  readonly maxPhyAddr?: number;
  /** false: numbers alone, which is faster. Default true. */
  readonly findings?: boolean;
  /** Told how many bytes were read of the file (compressed ones, where it is). */
  readonly onProgress?: (bytes: number) => void;
  /** Each event that the filter lets through; the record is another's afterwards. */
  readonly onEvent?: (record: EventRecord) => void;
}

/** One trace's analysis: events go in, a report comes out. */
export class TraceAnalysis {
  readonly roles: PluginRoles;
  readonly returns = new FaultReturns();
  readonly parser: BodyParser;
  readonly model: Model;
  readonly order = new TimeOrder();
  readonly #summary: Summary;
  readonly #detectors: Detectors | undefined;
  readonly #filter: EventFilter;
  readonly #options: TraceOptions;

  constructor(options: TraceOptions = {}) {
    this.#options = options;
    this.roles = new PluginRoles(this.returns);
    this.useKernel(options.kernel);
    this.parser = new BodyParser(this.roles);
    this.#filter = new EventFilter(options, () => this.form);
    this.#summary = new Summary((record) => this.#filter.inTime(record));
    this.#detectors =
      options.findings === false
        ? undefined
        : new Detectors(
            () => this.form,
            () => this.roles.layout,
            () => this.model,
          );
    const { onEvent } = options;
    const shown = onEvent && {
      onEvent: (_: unknown, record: EventRecord) => this.#filter.passes(record) && onEvent(record),
    };
    this.model = new Model([
      this.#summary,
      ...(this.#detectors?.listeners ?? []),
      ...(shown === undefined ? [] : [shown]),
    ]);
  }

  /** The kernel is known: by the caller, or as the file says. */
  useKernel(release: string | undefined): void {
    // What the caller says goes before what the file says.
    const name = this.#options.kernel ?? release;
    this.useRoles(name);
    this.returns.use(name);
  }

  /** Role words have the layout of that release. */
  useRoles(release: string | undefined): void {
    const layout = roleLayoutOf(release);
    if (layout !== undefined) this.roles.layout = layout;
  }

  readonly #vmOf = ({ owner }: Page): string | undefined =>
    this.model.vms.several ? this.model.vms.vmOf(owner)?.name : undefined;

  take(record: EventRecord): void {
    if (this.#filter.isOver(record)) return;
    record.counted = this.#filter.inTime(record);
    // What is behind belongs to another trace, or another time: what was known does not hold.
    if (!this.order.goesOn(record)) this.model.lost();
    this.model.take(record);
  }

  /** How the trace's kernel prints roles. */
  get form(): RoleForm {
    return this.parser.roleForm ?? this.roles.form;
  }

  /** Events were lost here: what was in them is not known. */
  lost(): void {
    this.model.lost();
  }

  /** The report; `source` has been read. */
  report(source: TraceSource): TraceReport {
    const last = new EventRecord();
    this.model.finish(last);
    const summary = this.#summary;
    const { given, stated } = { given: this.#options.kernel, stated: source.release };
    const kernel = kernelOf({
      given,
      stated,
      parser: this.parser,
      formats: source.formats,
      emptyBit63: summary.emptyBit63,
    });
    const format = formatOf(summary.faultsOf);
    const form = this.form;
    const spte = {
      layouts: layoutsIn(kernel),
      format: format.format,
      physBits: this.#options.maxPhyAddr ?? MOST_PHYSICAL_BITS,
      adKnown: !this.roles.withoutAd,
    };
    const { findings, more } = this.#detectors?.findings({
      form,
      spte,
      old: isBefore51(kernel),
      before517: isBefore517(kernel),
      expectedForm: formOf(kernel),
    }) ?? {
      findings: [],
      more: 0,
    };
    const { model } = this;
    return {
      name: this.#options.name ?? "trace",
      format: source.format,
      packed: source.packed,
      kernel,
      lines: source.lines,
      events: source.events,
      otherEvents: source.otherEvents,
      unreadable: source.unreadable,
      lost: source.lost,
      from: summary.from <= summary.to ? summary.from : undefined,
      to: summary.from <= summary.to ? summary.to : undefined,
      warnings: warningsOf({
        ...{ source, model, summary, kernel },
        order: this.order,
        since: this.#options.since,
        unfollowed: this.#detectors?.unfollowed ?? 0,
        more,
      }),
      summary: {
        events: summary.kinds(),
        faults: summary.faults(),
        walks: {
          walks: summary.count("kvm_mmu_pagetable_walk"),
          entries: summary.count("kvm_mmu_paging_element"),
          errors: summary.walkErrors,
        },
        mmio: {
          marked: summary.count("mark_mmio_spte"),
          handled: summary.count("handle_mmio_page_fault"),
          checked: summary.count("check_mmio_spte"),
          stale: summary.mmioStale,
        },
        fastFaults: {
          tried: summary.count("fast_page_fault"),
          fixed: summary.fastFixed,
          spurious: summary.fastSpurious,
        },
        pages: {
          made: summary.pagesMade,
          found: summary.pagesFound,
          zapped: summary.zaps,
          zapAlls: summary.count("kvm_mmu_zap_all_fast"),
        },
        sync: { unsynced: summary.count("kvm_mmu_unsync_page"), synced: summary.syncs },
        switches: summary.switches(),
        roles: roleRows(model.pages(), form),
        roots: rootRows(model.pages(), form, this.#vmOf).map(({ words, ...root }) => root),
        vcpus: summary.vcpus(),
        times: summary.times(),
      },
      findings: findings.filter((finding) => this.#filter.concerns(finding)),
    };
  }

  /** The pages that the trace has shown, those that are left first; of a filter, those that it lets through. */
  pages(): PageRow[] {
    return pageRows(this.model.pages(), this.form, this.#vmOf, (page) => this.#filter.isOf(page.gfn, page.role));
  }
}
