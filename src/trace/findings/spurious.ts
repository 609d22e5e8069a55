/** Faults that change nothing: the entry was already as the access needs it, and the processor faults all the same. */
import { Kind, Slot } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";
import type { ModelListener } from "../model/model.js";
import type { Outcome, Thread } from "../model/thread.js";
import { Evidence, type Found } from "./finding.js";
import {
  FOLLOWED,
  SPREAD_SPURIOUS_FAULTS,
  SPREAD_SPURIOUS_ROUNDS,
  SPREAD_SPURIOUS_SHARE,
  SPURIOUS_FAULTS,
} from "./thresholds.js";

const PAGE_SHIFT = 12;
const PAGE_SIZE = 2 ** PAGE_SHIFT;
const WHY =
  "the lines are the events that ended the faults: a stale TLB entry, a flush that is missing, or vCPUs that fault on it at once";

interface Address {
  readonly page: bigint;
  readonly error: bigint;
  readonly evidence: Evidence;
}

/** The faults of one vCPU. */
class Faults {
  readonly thread: Thread;
  all = 0;
  readonly spurious = new Evidence();
  /** By page. */
  readonly addresses = new Map<string, Address>();

  constructor(thread: Thread) {
    this.thread = thread;
  }
}

export class SpuriousDetector implements ModelListener {
  readonly #of = new Map<Thread, Faults>();
  #followed = 0;
  unfollowed = 0;

  onFault(thread: Thread, outcome: Outcome, record: EventRecord): void {
    if (!record.counted) return;
    const faults = this.#faults(thread);
    faults.all++;
    if (outcome !== "spurious") return;
    const { addressLow, addressHigh, errorHigh, errorLow } = thread.fault;
    this.#add(faults, addressLow, addressHigh, (BigInt(errorHigh) << 32n) | BigInt(errorLow), record);
  }

  /** Where no kvm_page_fault tells of the fault, fast_page_fault does. */
  onEvent(thread: Thread, record: EventRecord): void {
    if (record.kind !== Kind.fast_page_fault || thread.fault.open || !record.counted) return;
    const faults = this.#faults(thread);
    faults.all++;
    if (record.low[Slot.spurious] !== 1) return;
    this.#add(faults, record.low[Slot.address]!, record.high[Slot.address]!, record.big(Slot.error_code), record);
  }

  #faults(thread: Thread): Faults {
    let faults = this.#of.get(thread);
    if (faults === undefined) {
      faults = new Faults(thread);
      this.#of.set(thread, faults);
    }
    return faults;
  }

  #add(faults: Faults, addressLow: number, addressHigh: number, error: bigint, record: EventRecord): void {
    faults.spurious.add(record);
    const low = (addressLow - (addressLow % PAGE_SIZE)) / PAGE_SIZE;
    const key = `${addressHigh} ${low}`;
    let address = faults.addresses.get(key);
    if (address === undefined) {
      if (this.#followed >= FOLLOWED) {
        this.unfollowed++;
        return;
      }
      this.#followed++;
      const page = ((BigInt(addressHigh) << 32n) | BigInt(addressLow)) >> BigInt(PAGE_SHIFT);
      address = { page, error, evidence: new Evidence() };
      faults.addresses.set(key, address);
    }
    address.evidence.add(record);
  }

  findings(): Found[] {
    return [...this.#of.values()].flatMap((faults) => {
      const own = [...faults.addresses.values()].filter(({ evidence }) => evidence.count >= SPURIOUS_FAULTS);
      return own.length === 0 ? spread(faults) : own.map((address) => onPage(faults, address));
    });
  }
}

function onPage({ thread }: Faults, { page, error, evidence }: Address): Found {
  return {
    code: "spurious-faults",
    message: `${thread.name}: ${evidence.count} faults on page 0x${(page << BigInt(PAGE_SHIFT)).toString(16)} changed nothing`,
    details: [`error code of the first: 0x${error.toString(16)}`, WHY],
    count: evidence.count,
    owner: thread.pages,
    vcpu: thread.vcpu,
    since: evidence.since,
    until: evidence.until,
    evidence: evidence.lines,
  };
}

function spread({ thread, all, spurious, addresses }: Faults): Found[] {
  const { count, since, until, lines } = spurious;
  const often = count >= SPREAD_SPURIOUS_FAULTS && count >= SPREAD_SPURIOUS_SHARE * all;
  if (!often || count < SPREAD_SPURIOUS_ROUNDS * addresses.size) return [];
  const message = `${thread.name}: ${count} of ${all} faults changed nothing, on ${addresses.size} pages`;
  const details = ["no page has many of them: flushes are missing altogether, rather than for one entry", WHY];
  const { pages: owner, vcpu } = thread;
  return [{ code: "spurious-faults", message, details, count, owner, vcpu, since, until, evidence: lines }];
}
