/** What is thrown for a recording, or a trace, that cannot be read. */
import { PagingError } from "../../errors.js";

/** A recording (or trace) cannot be read: which file, which field, what was expected and what is there. */
export class RecordingError extends PagingError {
  override name = "RecordingError";

  constructor(
    /** Path of the file, as it was given. */
    readonly file: string,
    /** Path of the field inside the file (`steps[3].events[12].gfn`), a line or an offset; empty for the whole file. */
    readonly field: string,
    readonly problem: string,
  ) {
    super(field === "" ? `${file}: ${problem}` : `${file}: ${field}: ${problem}`);
  }
}
