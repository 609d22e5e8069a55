/** Raw memory: the bytes of one range of addresses, which the user has to know. */
import type { ByteSource } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";
import { ExtentList } from "../memory/extent-list.js";
import { ExtentMap } from "../memory/extents.js";
import { type DumpContent, memoryOnly } from "./content.js";

/** The file's first byte is at this guest-physical address. */
export function readRaw(source: ByteSource, gpa: bigint): DumpContent {
  if (gpa < 0n || gpa + BigInt(source.size) > 1n << 52n) {
    throw new DumpError(
      source.name,
      undefined,
      `expected raw memory below physical address 2^52, found 0x${source.size.toString(16)} bytes at 0x${gpa.toString(16)}`,
    );
  }
  const extents = new ExtentList();
  extents.add(Number(gpa), source.size, 0);
  const facts = [{ label: "format", value: `raw memory at 0x${gpa.toString(16)}` }];
  return memoryOnly("raw", new ExtentMap(source, extents), facts, []);
}
