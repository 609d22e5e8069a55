/** Addresses from a file or standard input: the first column of each line. */
import { createReadStream } from "node:fs";
import { CliError } from "./errors.js";
import type { CliIo } from "./io.js";
import { linesOf } from "./lines.js";
import { parseHex } from "./values.js";

/** Reads `path`, or standard input for `-`. Empty lines and lines that begin with # are passed over. */
export async function readAddresses(io: CliIo, path: string): Promise<bigint[]> {
  const name = path === "-" ? "standard input" : path;
  const addresses: bigint[] = [];
  let number = 0;
  for await (const line of linesOf(path === "-" ? io.stdin : createReadStream(path), name)) {
    number++;
    const column = /^\s*([^\s#]\S*)/.exec(line)?.[1];
    if (column === undefined) continue;
    addresses.push(addressOf(column, `${name}: line ${number}`));
  }
  return addresses;
}

function addressOf(text: string, where: string): bigint {
  try {
    return parseHex(text.replace(/:$/, ""));
  } catch {
    throw new CliError(`${where}: expected a hexadecimal address of at most 64 bits, found ${text.slice(0, 40)}`);
  }
}
