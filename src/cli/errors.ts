/** Bad usage or bad input that the command itself finds. */
import { PagingError } from "../errors.js";

/** Exit codes of every command. */
export const ExitCode = {
  /** Done. */
  Success: 0,
  /** Nothing is mapped, or a difference was found. */
  Negative: 1,
  /** Bad usage or bad input. */
  Failure: 2,
} as const;

/** A one-line message for the user; the command ends with exit code 2. */
export class CliError extends PagingError {
  override name = "CliError";
}
