import { defineConfig } from "vitest/config";

/** Suites that state the rules of the walk: they run once for each engine (test/engine.ts). */
const WALK_SUITES = ["test/walk/**/*.test.ts", "test/conform/**/*.test.ts"];

const perEngine = (ENGINE: string) => ({
  extends: true as const,
  test: { name: ENGINE, include: WALK_SUITES, env: { ENGINE } },
});

export default defineConfig({
  test: {
    // Worker threads start faster than processes; the tests share no state of a process.
    pool: "threads",
    maxWorkers: "100%",
    // Some tests run npm, a compiler or a browser, perhaps on a busy machine with two cores.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ["default", "json"],
    // Read by .ci/run.
    outputFile: { json: "build/test-results.json" },
    projects: [
      perEngine("wasm"),
      perEngine("reference"),
      {
        extends: true,
        test: { name: "package", include: ["test/**/*.test.ts"], exclude: ["test/fixtures/**", ...WALK_SUITES] },
      },
    ],
  },
});
