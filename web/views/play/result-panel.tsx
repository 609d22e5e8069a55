/** What the last access came to, check by check. */

import type { PlayResult } from "../../engine/play/machine.js";
import type { Registers } from "../../engine/play/setup.js";
import { hex } from "../../paging/words.js";
import { reasonsOf } from "./reasons.js";

function outcome({ pa, fault, tlb, stale, pageSize }: PlayResult): string {
  if (fault !== undefined)
    return fault.vector === 14 ? `#PF, error code ${hex(fault.errorCode)}` : "#GP: the address is not canonical";
  const where = `physical address ${hex(pa!)}`;
  if (tlb === "hit") return `${where}, from the TLB${stale ? ": the tables no longer say so" : ""}`;
  return `${where}, in a page of ${pageSize === 4096 ? "4 KiB" : `${pageSize! / 2 ** 20} MiB`}`;
}

interface ResultPanelProps {
  readonly result: PlayResult;
  /** Those of the access. */
  readonly registers: Registers;
  /** Something was done to the machine since. */
  readonly outdated: boolean;
}

export function ResultPanel({ result, registers, outdated }: ResultPanelProps) {
  const { access, fault, checks, flags } = result;
  const title = `${access.user ? "User" : "Supervisor"} ${access.kind} of ${hex(access.address)}`;
  return (
    <section>
      <h2>{title}</h2>
      {outdated && (
        <p class="outdated">What follows was before your last change: make the access again to see what it does now.</p>
      )}
      <p class={fault === undefined ? "good" : "bad"} role="status">
        {outcome(result)}
      </p>
      {reasonsOf(result, registers).map((text) => (
        <p key={text}>{text}</p>
      ))}
      {checks.length > 0 && (
        <>
          <h3>Every check, in the processor's order</h3>
          <ol class="checks">
            {checks.map((check, index) => (
              <li key={index} class={check.passed ? "" : "bad"}>
                <span aria-hidden="true">{check.passed ? "✓" : "✗"} </span>
                <span class="unseen">{check.passed ? "passed: " : "refused: "}</span>
                {check.subject}: {check.text} <code>{check.factors}</code>
              </li>
            ))}
          </ol>
        </>
      )}
      {flags.length > 0 && (
        <p>
          Flags that the processor set:{" "}
          {flags.map(({ entry, flag, address }) => (
            <code key={`${address}${flag}`}>
              {entry}.{flag} at {hex(address)}{" "}
            </code>
          ))}
        </p>
      )}
      {fault?.vector === 14 && (
        <details>
          <summary>Each bit of the error code</summary>
          <ul>
            {fault.reasons.map((reason) => (
              <li key={reason}>{reason}</li>
            ))}
          </ul>
        </details>
      )}
    </section>
  );
}
