/** Faults on one page that change nothing: the entry was already as the access needs it, and the processor faults all the same. */
import { Kind, Slot } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";
import type { ModelListener } from "../model/model.js";
import type { Outcome, Thread } from "../model/thread.js";
import { Evidence, type Finding } from "./finding.js";
import { FOLLOWED, SPURIOUS_FAULTS } from "./thresholds.js";

const PAGE_SHIFT = 12;
const PAGE_SIZE = 2 ** PAGE_SHIFT;

interface Address {
  readonly vcpu: number;
  readonly page: bigint;
  readonly error: bigint;
  readonly evidence: Evidence;
}

export class SpuriousDetector implements ModelListener {
  readonly #addresses = new Map<string, Address>();
  unfollowed = 0;

  onFault(thread: Thread, outcome: Outcome, record: EventRecord): void {
    if (outcome !== "spurious") return;
    const { fault, vcpu } = thread;
    this.#add(
      vcpu,
      fault.addressLow,
      fault.addressHigh,
      (BigInt(fault.errorHigh) << 32n) | BigInt(fault.errorLow),
      record,
    );
  }

  /** Where no kvm_page_fault tells of the fault, fast_page_fault does. */
  onEvent(thread: Thread, record: EventRecord): void {
    if (record.kind !== Kind.fast_page_fault || thread.fault.open || record.low[Slot.spurious] !== 1) return;
    this.#add(thread.vcpu, record.low[Slot.address]!, record.high[Slot.address]!, record.big(Slot.error_code), record);
  }

  #add(vcpu: number, addressLow: number, addressHigh: number, error: bigint, record: EventRecord): void {
    const low = (addressLow - (addressLow % PAGE_SIZE)) / PAGE_SIZE;
    const key = `${vcpu} ${addressHigh} ${low}`;
    let address = this.#addresses.get(key);
    if (address === undefined) {
      if (this.#addresses.size >= FOLLOWED) {
        this.unfollowed++;
        return;
      }
      const page = ((BigInt(addressHigh) << 32n) | BigInt(addressLow)) >> BigInt(PAGE_SHIFT);
      address = { vcpu, page, error, evidence: new Evidence() };
      this.#addresses.set(key, address);
    }
    address.evidence.add(record);
  }

  findings(): Finding[] {
    return [...this.#addresses.values()]
      .filter(({ evidence }) => evidence.count >= SPURIOUS_FAULTS)
      .map(({ vcpu, page, error, evidence }) => ({
        code: "spurious-faults" as const,
        message: `vCPU ${vcpu}: ${evidence.count} faults on page 0x${(page << BigInt(PAGE_SHIFT)).toString(16)} changed nothing`,
        details: [
          `error code of the first: 0x${error.toString(16)}`,
          "the lines are the events that ended the faults: a stale TLB entry, a flush that is missing, or vCPUs that fault on it at once",
        ],
        count: evidence.count,
        vcpu,
        since: evidence.since,
        until: evidence.until,
        evidence: evidence.lines,
      }));
  }
}
