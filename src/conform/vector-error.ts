/** What is thrown for a line that is no page-walk vector. */
import { PagingError } from "../errors.js";

/** A line is not a page-walk vector. */
export class VectorError extends PagingError {
  override name = "VectorError";

  constructor(
    /** Line number, from 1. */
    readonly line: number,
    /** The field at fault, e.g. `entries[1].gpa`; empty where the line itself is not a JSON object. */
    readonly field: string,
    /** What was found and what was expected. */
    readonly problem: string,
  ) {
    super(`line ${line}: ${field === "" ? "" : `${field} `}${problem}`);
  }
}
