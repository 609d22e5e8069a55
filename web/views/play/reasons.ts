/** What a reader of the checks may miss: why an access is allowed or refused against the look of its entry, in a sentence. */
import { bitOf, CR0, CR4 } from "x86-paging/abi";
import { spteLayoutOfKernel } from "x86-paging/spte";
import type { ShadowResult } from "../../engine/play/kvm-shadow.js";
import type { PlayResult } from "../../engine/play/machine.js";
import type { Registers } from "../../engine/play/setup.js";

const { legacy } = spteLayoutOfKernel("6.1");
const W = bitOf(legacy, "RW");
const U = bitOf(legacy, "US");
const NX = bitOf(legacy, "NX");

/** Of the processor's own walk. */
export function reasonsOf({ access, rights, fault, tlb, stale }: PlayResult, { cr0, cr4 }: Registers): string[] {
  const reasons: string[] = [];
  const wp = (cr0 & bitOf(CR0, "WP")) !== 0n;
  if (fault === undefined && access.kind === "write" && !access.user && rights?.write === false) {
    reasons.push(
      "The page is read-only, and the write succeeds all the same: with CR0.WP=0 the processor does not look at R/W where it runs in supervisor mode.",
    );
  }
  if (fault !== undefined && access.kind === "write" && !access.user && wp && fault.errorCode === 3n) {
    reasons.push("CR0.WP=1: supervisor writes respect read-only pages. Clear CR0.WP and try again.");
  }
  if (
    fault !== undefined &&
    access.kind === "fetch" &&
    !access.user &&
    (cr4 & bitOf(CR4, "SMEP")) !== 0n &&
    fault.errorCode === 0x11n
  ) {
    reasons.push("CR4.SMEP=1: the system does not run code of user pages.");
  }
  if (tlb === "hit") {
    reasons.push(
      stale
        ? "The tables have changed, and nobody has told the TLB: INVLPG of the address, or a write to CR3, makes it forget."
        : "The tables were not read, and no flag was set: the TLB has the translation.",
    );
  }
  return reasons;
}

/** Of KVM's shadow: how its entry differs from the guest's, and why. */
export function shadowReasons(
  { access, rights }: PlayResult,
  { outcome, steps }: ShadowResult,
  { cr0, cr4 }: Registers,
): string[] {
  const leaf = steps.at(-1);
  if (outcome === "inject")
    return [
      "KVM walks the guest's tables, finds that the guest itself forbids the access, and gives the fault to the guest: no SPTE is made for it.",
    ];
  if (leaf === undefined || leaf.level !== 1 || rights === undefined) return [];
  const { spte } = leaf;
  const reasons: string[] = [];
  const wp = (cr0 & bitOf(CR0, "WP")) !== 0n;
  if (!wp && (spte & W) !== 0n && (spte & U) === 0n && rights.user && !rights.write) {
    const smep = (cr4 & bitOf(CR4, "SMEP")) !== 0n;
    reasons.push(
      "The guest runs with CR0.WP=0, but the processor that runs it has CR0.WP=1, always: a read-only SPTE would make every such write fault. So KVM makes the SPTE writable and takes the user right away, lest user code write, too. The page's role has cr0_wp=0.",
    );
    reasons.push(
      smep
        ? "A supervisor page could be fetched from, which SMEP forbids of a user page: KVM sets NX as well."
        : "Let user code read the address: it faults on the shadow, and KVM turns the SPTE round, to user and read-only.",
    );
  } else if (!wp && (spte & U) !== 0n && (spte & W) === 0n && rights.user && !rights.write) {
    reasons.push(
      "The SPTE is the user's and read-only, as the guest's entry is; with CR0.WP=0 a supervisor's write faults on the shadow, and KVM turns it round: writable, and the supervisor's alone.",
    );
  } else if ((spte & W) === 0n && rights.write) {
    reasons.push(
      access.kind === "write"
        ? "The SPTE is not writable although the guest's entry is: the page is a table that KVM shadows, and writes to it must be seen."
        : "The SPTE is not writable although the guest's entry is: KVM makes it so at the first write, and sets the guest's dirty flag then.",
    );
  }
  if (rights.execute && (spte & NX) !== 0n && reasons.length === 0)
    reasons.push("The SPTE forbids fetches that the guest's entry allows.");
  return reasons;
}
