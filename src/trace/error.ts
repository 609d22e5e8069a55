/** What is wrong with a trace. */
import { PagingError } from "../errors.js";

/** A trace cannot be read, or has nothing of KVM's MMU in it. The message is one line that begins with the trace's name. */
export class TraceError extends PagingError {
  override name = "TraceError";
  readonly file: string;

  constructor(file: string, problem: string) {
    super(`${file}: ${problem}`);
    this.file = file;
  }
}
