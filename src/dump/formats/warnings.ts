/** What is said of dumps that are not whole. */
import type { ByteSource } from "../bytes/byte-source.js";
import type { DumpMemory } from "../memory/dump-memory.js";

/** One where the file says that it has memory that lies behind its end. */
export function cutWarnings(source: ByteSource, memory: DumpMemory): string[] {
  const { bytes, ranges } = memory.lacking.cut;
  if (bytes === 0) return [];
  const where = ranges === 1 ? "" : ` in ${ranges} ranges`;
  const first = memory.lackingRanges("cut")[0]!.gpa.toString(16);
  const end = source.size.toString(16);
  return [`the file breaks off at 0x${end}: ${bytes} bytes of memory${where}, from 0x${first} on, are not there`];
}
