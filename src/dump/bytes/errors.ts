/** What is wrong with a dump file. */
import { PagingError } from "../../errors.js";

/**
 * A dump cannot be read. The message is one line that names the file, the byte offset and what was expected.
 * Thrown while the dump is opened; from a page read only where the file fails or has become shorter since.
 */
export class DumpError extends PagingError {
  override name = "DumpError";
  /** The file's name as the caller gave it. */
  readonly file: string;
  /** Byte offset in the file (in the inflated bytes of a gzip file), or undefined where no single offset is at fault. */
  readonly offset: number | undefined;

  constructor(file: string, offset: number | undefined, problem: string) {
    super(offset === undefined ? `${file}: ${problem}` : `${file}: offset 0x${offset.toString(16)}: ${problem}`);
    this.file = file;
    this.offset = offset;
  }
}

/** A compressed dump inflates to more than it may (`maxInflated`). */
export class InflationLimitError extends DumpError {
  override name = "InflationLimitError";
}

/** Pages of the dump are compressed in ways whose decompressors are not loaded: `loadCodecs` has them. */
export class CodecsNeededError extends DumpError {
  override name = "CodecsNeededError";
  readonly codecs: readonly string[];

  constructor(file: string, codecs: readonly string[]) {
    super(file, undefined, `expected decompressors for ${codecs.join(", ")}: load them first (loadCodecs)`);
    this.codecs = codecs;
  }
}
