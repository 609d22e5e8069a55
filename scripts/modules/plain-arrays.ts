/**
 * Typed arrays in declarations without the type of their buffer, which TypeScript has from 5.7 on: `Uint8Array<ArrayBuffer>` is
 * `Uint8Array` to all. Where the buffer matters to users, the source says so otherwise.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const GENERIC = /\b((?:Big)?(?:Uint|Int|Float)\d+(?:Clamped)?Array|DataView|ArrayBufferView)<ArrayBuffer(?:Like)?>/g;

/** Rewrites every declaration file below the folder. */
export function plainArrays(folder: string): void {
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".d.ts")) continue;
    const text = readFileSync(join(folder, name), "utf8");
    const plain = text.replace(GENERIC, "$1");
    if (plain !== text) writeFileSync(join(folder, name), plain);
  }
}
