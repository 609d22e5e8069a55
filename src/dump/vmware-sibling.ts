/** Finds the other of VMware's two files beside one of them, for Node. */
import { statSync } from "node:fs";
import { type ByteSource, readExactly } from "./bytes/byte-source.js";
import { FileByteSource } from "./bytes/file-byte-source.js";
import { isVmss } from "./formats/vmss-tags.js";

const MEMORY = /\.vmem$/i;
const STATE = /\.(vmss|vmsn)$/i;
const STATE_NAMES = [".vmss", ".vmsn"];

/**
 * The path of the state file beside a .vmem, or of the .vmem beside a state file: the same name with the other ending.
 * Undefined where there is none, or where that is no state file by its content.
 */
export function vmwareSibling(path: string, file: ByteSource): string | undefined {
  if (STATE.test(path) && startsAsState(file)) {
    const memory = path.replace(STATE, ".vmem");
    return isFile(memory) ? memory : undefined;
  }
  if (!MEMORY.test(path)) return undefined;
  return STATE_NAMES.map((name) => path.replace(MEMORY, name)).find((one) => isFile(one) && isStateFile(one));
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

function isStateFile(path: string): boolean {
  const file = new FileByteSource(path);
  try {
    return startsAsState(file);
  } finally {
    file.close();
  }
}

function startsAsState(file: ByteSource): boolean {
  if (file.size < 4) return false;
  return isVmss(new Uint8Array(readExactly(file, 0, 4, "the first bytes").buffer));
}
