/** What the first stage's explanation asks of the second stage's. */
import type { Fault } from "../api.js";
import type { StageAccess } from "../reference/second-stage.js";
import type { Factor } from "./explanation.js";
import type { CheckLog } from "./log.js";

export type StageOutcome =
  | {
      readonly ok: true;
      readonly pa: bigint;
      /** Why flags of the guest's entry at this address cannot be written; undefined where they can. */
      readonly unwritable: { readonly fault: Fault; readonly factors: readonly Factor[] } | undefined;
    }
  | { readonly ok: false; readonly fault: Fault };

/** Explains the translation of a guest-physical address. */
export type ExplainStage = (gpa: bigint, access: StageAccess, log: CheckLog) => StageOutcome;
