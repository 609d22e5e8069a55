/** Where a walk ends, in a line; and the bits of an error code, each with its reason. */
import { Status, type Walk } from "x86-paging";
import { bitOf, PFERR } from "x86-paging/abi";
import { entryName } from "x86-paging/decode";
import { type Explanation, factorText } from "x86-paging/explain";
import { pageSizeName } from "x86-paging/maps";
import { hex } from "../../paging/words.js";

/** What a fault's code is called, by status. */
const CODES: Readonly<Record<number, string>> = {
  [Status.PageFault]: "error code",
  [Status.EptViolation]: "exit qualification",
  [Status.NestedPageFault]: "EXITINFO1",
};

export function outcomeText({ result }: Walk): string {
  if (!result.ok) return faultText(result);
  const { rights, pa, gpa, pageSize, protectionKey, global } = result;
  const words = [
    `${pageSizeName(pageSize)} page`,
    rights.user ? "user" : "supervisor",
    rights.write ? "writable" : "read-only",
    rights.execute ? "executable" : "no-execute",
    ...(global ? ["global"] : []),
    ...(protectionKey !== 0 ? [`key ${protectionKey}`] : []),
    ...(gpa !== pa ? [`guest-physical ${hex(gpa)}`] : []),
  ];
  return `${hex(pa)}: ${words.join(", ")}`;
}

function faultText({ status, errorCode, level, stage }: Exclude<Walk["result"], { ok: true }>): string {
  const entry = `${stage === "second" ? "second-stage " : ""}${entryName(level)}`;
  switch (status) {
    case Status.NonCanonical:
      return "not canonical";
    case Status.SpaceSeparation:
      return "the address is in the other mode's half (CR4.LASS)";
    case Status.OutsideMemory:
      return "a table is not in the dump";
    case Status.EptMisconfiguration:
      return `EPT misconfiguration: the ${entry}`;
    case Status.EptViolation:
      return `EPT violation: the ${entry}, ${CODES[status]} ${hex(errorCode)}`;
    case Status.NestedPageFault:
      return `nested page fault: the ${entry}, ${CODES[status]} ${hex(errorCode)}`;
    default: {
      const what =
        (errorCode & bitOf(PFERR, "P")) === 0n
          ? "is not present"
          : (errorCode & bitOf(PFERR, "RSVD")) !== 0n
            ? "has reserved bits set"
            : "forbids it";
      return `page fault: the ${entry} ${what}, error code ${hex(errorCode)}`;
    }
  }
}

export function Outcome({ explanation }: { explanation: Explanation }) {
  const { walk, code, deciding } = explanation;
  const { result } = walk;
  return (
    <div class="outcome" role="status">
      <p class={result.ok ? "good" : "bad"}>
        <strong>{outcomeText(walk)}</strong>
      </p>
      {deciding !== undefined && (
        <p>
          {deciding.text} <code>{deciding.factors.map(factorText).join(" ")}</code>
        </p>
      )}
      {!result.ok && code.length > 0 && (
        <details>
          <summary>
            {CODES[result.status]} <code>{hex(result.errorCode)}</code>, bit by bit
          </summary>
          <div class="scroll">
            <table>
              <thead>
                <tr>
                  <th scope="col">bit</th>
                  <th scope="col">name</th>
                  <th scope="col">is</th>
                  <th scope="col">because</th>
                </tr>
              </thead>
              <tbody>
                {code.map(({ name, bit, set, reason }) => (
                  <tr key={bit}>
                    <td>{bit}</td>
                    <td>
                      <code>{name}</code>
                    </td>
                    <td>{set ? 1 : 0}</td>
                    <td>{reason}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </details>
      )}
    </div>
  );
}
