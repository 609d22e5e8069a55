/**
 * Puts the values of named bits into built modules: `bitOf(CR4, "PAE")` becomes `0x20n`. The tables of src/abi, with what each
 * bit means in words, then leave the bundles of whoever does not decode.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

type Abi = Readonly<Record<string, unknown>>;
interface Table {
  readonly fields: readonly { readonly name: string }[];
}

const IMPORT = /^import \{([^}]*)\} from "([^"]*\/abi\/[\w-]+\.js)";$/gm;
const CALL = /\b(bitOf|flagOf|fieldOf)\((\w+), "(\w+)"\)/g;

/** Tables that a module imports, by the names that it has for them. */
async function tablesOf(file: string, text: string): Promise<Map<string, Table>> {
  const tables = new Map<string, Table>();
  for (const [, names, from] of text.matchAll(IMPORT)) {
    const abi = (await import(pathToFileURL(resolve(dirname(file), from!)).href)) as Abi;
    for (const name of names!.split(",")) {
      const [exported, local = exported] = name.trim().split(" as ") as [string, string?];
      const value = abi[exported];
      if (typeof value === "object" && value !== null && "fields" in value) tables.set(local, value as Table);
    }
  }
  return tables;
}

interface Bits {
  bitOf(table: Table, name: string): bigint;
  fieldOf(table: Table, name: string): { readonly name: string; readonly low: number; readonly width?: number };
}

/** Rewrites the modules of the folders; gives the number of values that were put in. */
export async function foldBits(dist: string, folders: readonly string[]): Promise<number> {
  const bits = (await import(pathToFileURL(join(dist, "abi", "bits.js")).href)) as Bits;
  let folded = 0;
  for (const folder of folders) {
    for (const name of readdirSync(join(dist, folder), { recursive: true, encoding: "utf8" })) {
      if (!name.endsWith(".js")) continue;
      const file = join(dist, folder, name);
      const text = readFileSync(file, "utf8");
      const tables = await tablesOf(file, text);
      const better = text.replace(CALL, (call: string, how: string, local: string, field: string) => {
        const table = tables.get(local);
        if (table === undefined) return call;
        folded++;
        if (how === "bitOf") return `0x${bits.bitOf(table, field).toString(16)}n`;
        if (how === "flagOf") return `0x${bits.bitOf(table, field).toString(16)}`;
        const { low, width = 1 } = bits.fieldOf(table, field);
        return JSON.stringify({ name: field, low, width });
      });
      if (better !== text) writeFileSync(file, better);
    }
  }
  return folded;
}
