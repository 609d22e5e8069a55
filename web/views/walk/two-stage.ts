/** A walk over two stages by rows: what the host's tables say of the address of each of the guest's entries, and of the page. */
import type { Walk, WalkStep } from "x86-paging";

export interface StageRow {
  /** Guest-physical address that the host's tables translate; undefined where nothing was read of it. */
  readonly gpa: bigint | undefined;
  /** The host's entries, from the root on. */
  readonly host: readonly WalkStep[];
  /** The guest's entry; undefined of the last row, where the page itself is translated. */
  readonly guest: WalkStep | undefined;
}

export function stageRows({ steps, result }: Walk): StageRow[] {
  const rows: StageRow[] = [];
  let host: WalkStep[] = [];
  for (const step of steps) {
    if (step.stage === "second") host.push(step);
    else {
      rows.push({ gpa: step.address, host, guest: step });
      host = [];
    }
  }
  const gpa = result.ok ? result.gpa : result.stage === "second" ? result.address : undefined;
  if (host.length > 0) rows.push({ gpa, host, guest: undefined });
  return rows;
}
