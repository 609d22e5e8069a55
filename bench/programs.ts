/** Whole programs: the command over a synthetic dump, a process of its own each time, starting and writing included. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "./machine.js";
import type { Section } from "./report.js";
import { compareOnce } from "./rounds.js";

/** Guest-physical address of the root of `build`'s tables. */
const ROOT = "0x1000";

/** The built command, from the sources and from dist alike. */
function command(): string | undefined {
  const places = ["../cli/bin.js", "../dist/cli/bin.js"].map((place) => fileURLToPath(new URL(place, import.meta.url)));
  return places.find((place) => existsSync(place));
}

const PROGRAMS: readonly (readonly [name: string, ...args: string[]])[] = [
  ["maps", "maps"],
  ["maps --json", "maps", "--json"],
  ["maps --format leaves", "maps", "--format", "leaves"],
  ["maps --format leaves --json", "maps", "--format", "leaves", "--json"],
];

/** Listings of `tables` level-1 tables of which every other entry is present, at random: no two pages are a range. */
export function measurePrograms(quick: boolean): Section[] {
  const bin = command();
  if (bin === undefined) return [];
  const folder = mkdtempSync(join(tmpdir(), "x86-paging-bench-"));
  try {
    const file = join(folder, "tables.raw");
    const machine = build({ tables: quick ? 2048 : 8192, regions: 1, absent: 0.5, swapped: true });
    const { linear } = machine.core.internals();
    writeFileSync(file, linear.u8.subarray(machine.ramLinear, machine.ramLinear + machine.ramSize));
    const work = [...machine.space.leaves()].length;
    machine.dispose();
    const candidates = PROGRAMS.map(([name, program, ...options]) => ({
      name,
      work,
      run: () => {
        const args = [bin, program!, file, "--raw", "--cr3", ROOT, ...options];
        const { status, stderr } = spawnSync(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] });
        if (status !== 0) throw new Error(`${name} ended with ${status}: ${stderr}`);
      },
    }));
    const title = `Programs over ${quick ? "half a" : "two"} million scattered mappings`;
    return [{ title, unit: "mapping", results: compareOnce(candidates, quick ? 3 : 5) }];
  } finally {
    rmSync(folder, { recursive: true });
  }
}
