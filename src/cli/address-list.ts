/** Addresses from a file or standard input: the first column of each line. */
import { CliError } from "./errors.js";
import type { CliIo } from "./io.js";
import { linesOf } from "./lines.js";
import { openText } from "./text-file.js";
import { parseHex } from "./values.js";

/**
 * The addresses of `path`, or of standard input for `-`, as they are read. Empty lines and lines that begin with # are
 * passed over.
 */
export function readAddresses(io: CliIo, path: string): AsyncIterable<bigint> {
  return path === "-" ? addressesOf(io.stdin, "standard input") : addressesOf(openText(path).chunks, path);
}

async function* addressesOf(input: AsyncIterable<string | Uint8Array>, name: string): AsyncIterable<bigint> {
  let number = 0;
  for await (const line of linesOf(input, name)) {
    number++;
    const column = /^\s*([^\s#]\S*)/.exec(line)?.[1];
    if (column !== undefined) yield addressOf(column, `${name}: line ${number}`);
  }
}

function addressOf(text: string, where: string): bigint {
  try {
    return parseHex(text.replace(/:$/, ""));
  } catch {
    throw new CliError(`${where}: expected a hexadecimal address of at most 64 bits, found ${text.slice(0, 40)}`);
  }
}
