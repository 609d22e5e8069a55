/**
 * All benchmarks, in the order in which they are run. What needs more than this package (a compiler, v86) is left out where
 * it is missing, with a note.
 */
import { existsSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import type { Benchmarks, BenchmarkUnit } from "../src/cli/benchmarks.js";
import { measureAccess } from "./access.js";
import { hasBootStream, measureBoot } from "./boot.js";
import { measureEnumeration, measureListing } from "./enumerate.js";
import { FULL_GROWTH, growthSteps, QUICK_GROWTH } from "./growth.js";
import { loadNative, type Native } from "./native.js";
import { measurePrograms } from "./programs.js";
import { measureRegisters } from "./registers.js";
import { curveMarkdown, markdown } from "./report.js";
import type { RoundOptions } from "./rounds.js";
import { SHADOW_UNITS } from "./shadow.js";
import { measureSlots } from "./slots.js";
import { measureThreads } from "./threads.js";
import { measureV86 } from "./v86.js";
import { CASES, measureCase, measureTlb } from "./walks.js";

const FULL: RoundOptions = { rounds: 25, time: 12 };
const QUICK: RoundOptions = { rounds: 7, time: 5 };

/** The native candidate, or why there is none. */
function native(): Native | string {
  const source = fileURLToPath(new URL("native/walk.c", import.meta.url));
  return existsSync(source) ? loadNative() : "its source is not part of the package";
}

function v86IsInstalled(): boolean {
  try {
    import.meta.resolve("v86/package.json");
    return true;
  } catch {
    return false;
  }
}

export const benchmarks: Benchmarks = {
  units({ quick, only }) {
    const notes: string[] = [];
    const options = quick ? QUICK : FULL;
    const isWanted = (title: string) => title.toLowerCase().includes(only.toLowerCase());
    let compiled: Native | string | undefined;
    // Compiled only for units that use it.
    const nativeOrNone = () => {
      compiled ??= native();
      if (typeof compiled !== "string") return compiled;
      const note = `no native candidate: ${compiled}; the first row is the baseline instead`;
      if (!notes.includes(note)) notes.push(note);
      return undefined;
    };
    const units: BenchmarkUnit[] = CASES.map((one) => ({
      title: one.title,
      run: () => ({ sections: [measureCase(one, nativeOrNone(), options)] }),
    }));
    units.push({ title: "Software TLB", run: () => ({ sections: [measureTlb(nativeOrNone(), options)] }) });
    units.push({ title: "Memory access", run: () => ({ sections: measureAccess(options) }) });
    units.push({ title: "An emulator's day", run: () => ({ sections: measureRegisters(nativeOrNone(), options) }) });
    if (hasBootStream()) {
      const run = () => ({ sections: measureBoot(nativeOrNone(), options) });
      units.push({ title: "An emulator's day: the boot of a guest", run });
    } else if (isWanted("boot")) notes.push("no boot: its stream is not part of the package");
    units.push({
      title: "An emulator's day: several threads",
      run: () => ({ sections: measureThreads(import.meta.resolve("x86-paging/shared"), options) }),
    });
    units.push({ title: "Slots", run: () => ({ sections: measureSlots(options) }) });
    units.push({ title: "Enumeration", run: () => ({ sections: measureEnumeration(nativeOrNone(), options) }) });
    units.push({ title: "Listing", run: () => ({ sections: measureListing(options) }) });
    units.push({ title: "Programs", run: () => ({ sections: measurePrograms(quick) }) });
    if (v86IsInstalled())
      units.push({ title: "v86, an emulator's day", run: () => ({ sections: measureV86(options) }) });
    else if (isWanted("v86")) notes.push("no comparison with v86: it is not installed");
    for (const { title, measure } of SHADOW_UNITS) {
      units.push({ title, run: () => ({ sections: [...measure(options)] }) });
    }
    const growth = growthSteps(quick ? QUICK_GROWTH : FULL_GROWTH);
    for (const [index, step] of growth.steps.entries()) {
      const last = index === growth.steps.length - 1;
      units.push({
        title: "Growth",
        run: () => {
          step();
          return last ? { curves: growth.curves() } : {};
        },
      });
    }
    return { units: units.filter(({ title }) => isWanted(title)), notes };
  },
  machine: () => ({ processor: cpus()[0]!.model, node: process.version, v8: process.versions.v8 }),
  sectionText: (section) => markdown([section]),
  curveText: curveMarkdown,
};
