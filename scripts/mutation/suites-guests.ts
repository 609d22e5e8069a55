/** Recordings and random guests: slower than suites-mmu.ts, run by the stand-in for vitest. */
import "./suites-done.js";
import "../../test/mmu/dirty-log.test.js";
import "../../test/mmu/leaks.test.js";
import "../../test/mmu/replay.test.js";
import "../../test/mmu/direct-replay.test.js";
import "../../test/mmu/tdp-replay.test.js";
import "../../test/mmu/shadow-random.test.js";
import "../../test/mmu/nested-random.test.js";
import "../../test/mmu/direct-random.test.js";
import "../../test/mmu/layout-random.test.js";
import { firstFailure } from "./vitest-shim.js";

globalThis.suitesDone(firstFailure());
