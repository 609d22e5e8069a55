/** A format of dumps: how it is recognised, and its reader. */
import type { ByteSource } from "../bytes/byte-source.js";
import type { Codecs } from "../codec/codec.js";
import type { DumpContent } from "./content.js";

/** What a reader gets besides the file. */
export interface ReadContext {
  /** Other files of the same dump. */
  readonly parts: readonly ByteSource[];
  readonly codecs: Codecs;
  /** The user knows that the writer left out zero pages only. */
  readonly zeroExcluded: boolean;
  /**
   * Opening from a source whose bytes are fetched piece by piece starts again where some are missing: what goes through
   * a whole file keeps its place here, by the source.
   */
  readonly progress: Map<ByteSource, unknown>;
}

export interface Format {
  /** As a message names it. */
  readonly title: string;
  /** Other files may belong to the dump. */
  readonly takesParts?: boolean;
  /** Decides by the first bytes (64, or as many as there are). */
  matches(head: Uint8Array): boolean;
  /** Looks closer at the first bytes of a file that matches; throws the DumpError with which `read` would end. */
  check?(source: ByteSource): void;
  /** Reads everything but the memory. Throws a DumpError. */
  read(source: ByteSource, context: ReadContext): DumpContent;
}
