import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/fixtures/**"],
    // Worker threads start faster than processes; the tests share no state of a process.
    pool: "threads",
    maxWorkers: "100%",
    // Some tests run npm, a compiler or a browser, perhaps on a busy machine with two cores.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ["default", "json"],
    // Read by .ci/run.
    outputFile: { json: "build/test-results.json" },
  },
});
