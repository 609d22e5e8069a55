/**
 * Chooses a stratified sample of page-walk vectors for the tests.
 *
 *     npx tsx scripts/sample-vectors.ts FOLDER OUTPUT [COUNT]
 *
 * Reads every *.ndjson.gz of FOLDER and writes OUTPUT/<mode>.ndjson.gz with about COUNT (6500) lines in all. A stratum
 * is one combination of mode, processor variant, access, result, depth of the tables and class; every stratum is represented, small ones
 * wholly, large ones by vectors that are spread evenly. The same input gives the same output.
 */
import { createReadStream, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { createGunzip, gzipSync } from "node:zlib";
import { parseVector, type WalkVector } from "../src/conform/index.js";

interface Line {
  readonly text: string;
  readonly mode: string;
}

async function main(): Promise<void> {
  const [folder, output, count = "6500"] = process.argv.slice(2);
  if (folder === undefined || output === undefined) {
    console.error("usage: npx tsx scripts/sample-vectors.ts FOLDER OUTPUT [COUNT]");
    process.exit(2);
  }
  const strata = await readStrata(folder);
  const limit = stratumLimit(
    [...strata.values()].map((lines) => lines.length),
    Number(count),
  );
  const chosen = [...strata.values()].flatMap((lines) => spread(lines, limit));
  mkdirSync(output, { recursive: true });
  for (const mode of new Set(chosen.map((line) => line.mode))) {
    const lines = chosen.filter((line) => line.mode === mode).map((line) => line.text);
    const packed = gzipSync(`${lines.join("\n")}\n`, { level: 9 });
    writeFileSync(join(output, `${mode}.ndjson.gz`), packed);
    console.log(`${mode}: ${lines.length} vectors, ${packed.length} bytes`);
  }
  console.log(`${strata.size} strata, at most ${limit} vectors of each, ${chosen.length} in all`);
}

async function readStrata(folder: string): Promise<Map<string, Line[]>> {
  const strata = new Map<string, Line[]>();
  for (const name of readdirSync(folder).sort()) {
    if (!name.endsWith(".ndjson.gz")) continue;
    const lines = createInterface({ input: createReadStream(join(folder, name)).pipe(createGunzip()) });
    let number = 0;
    for await (const text of lines) {
      number++;
      if (text.trim() === "") continue;
      const vector = parseVector(text, number);
      const key = stratum(vector, JSON.parse(text) as { class?: string; knownBug?: string });
      const members = strata.get(key) ?? [];
      members.push({ text: withoutRemarks(text), mode: vector.mode });
      strata.set(key, members);
    }
  }
  return strata;
}

function stratum(vector: WalkVector, remarks: { class?: string; knownBug?: string }): string {
  const { kind, cpl, implicit, result } = vector.accesses[0]!;
  const outcome = result.ok ? "ok" : "exit" in result ? result.exit : `${result.vector}:${result.errorCode}`;
  return [
    vector.mode,
    vector.cpu.variant,
    kind,
    cpl,
    implicit,
    outcome,
    vector.entries.length,
    remarks.class,
    remarks.knownBug,
  ].join(" ");
}

/** Drops what only explains how a vector was recorded. */
function withoutRemarks(text: string): string {
  const { rule: _rule, emulators: _emulators, ...vector } = JSON.parse(text) as Record<string, unknown>;
  return JSON.stringify(vector);
}

/** The largest number of vectors a stratum may give without exceeding `count` in all; at least 1. */
function stratumLimit(sizes: readonly number[], count: number): number {
  let limit = 1;
  while (
    sizes.some((size) => size > limit) &&
    sizes.reduce((sum, size) => sum + Math.min(size, limit + 1), 0) <= count
  ) {
    limit++;
  }
  return limit;
}

function spread(lines: readonly Line[], limit: number): Line[] {
  if (lines.length <= limit) return [...lines];
  return Array.from({ length: limit }, (_, index) => lines[Math.floor((index * lines.length) / limit)]!);
}

await main();
