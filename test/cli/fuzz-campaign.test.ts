/** The command `fuzz` and its workers: which rounds are handed out, when it stops, and what it ends with. */
import { beforeEach, describe, expect, it, vi } from "vitest";
import type { FuzzJob, FuzzReport } from "../../src/cli/fuzz-worker.js";
import { run } from "./run-main.js";

/** What the threads did, and what they are to find. */
const threads = vi.hoisted(() => ({
  jobs: [] as { seed: number; runs: number }[],
  started: 0,
  terminated: 0,
  findings: new Set<number>(),
  fail: false,
  lying: false,
  /** The other end of a thread's messages. */
  port: {
    said: [] as unknown[],
    tell: (_message: unknown): void => {},
    on(_event: string, listener: (message: unknown) => void) {
      this.tell = listener;
    },
    postMessage(message: unknown) {
      this.said.push(message);
    },
  },
}));

vi.mock("node:worker_threads", async (original) => {
  const events = await import("node:events");
  /** A thread that does its rounds here, in no time. */
  class Worker extends events.EventEmitter {
    constructor() {
      super();
      threads.started++;
      if (threads.fail) setImmediate(() => this.emit("error", new Error("the thread broke")));
    }
    postMessage(job: FuzzJob) {
      threads.jobs.push(job);
      const finding = { path: "3:1", scenario: "{ slots: [] }", differences: ["modes[0]: pae / 4level"] };
      const report: FuzzReport = threads.findings.has(job.seed) ? { ...job, finding } : job;
      setImmediate(() => this.emit("message", report));
    }
    async terminate() {
      threads.terminated++;
    }
  }
  return { ...(await original<object>()), Worker, parentPort: threads.port, workerData: null };
});

/** The reference, which calls every space without paging a PAE one when it is to lie. */
vi.mock("../../src/reference/index.js", async (original) => {
  const { createReference } = await original<typeof import("../../src/reference/index.js")>();
  return {
    createReference: () => {
      const engine = createReference();
      const make = engine.createAddressSpace.bind(engine);
      engine.createAddressSpace = (memory, config) => {
        const space = make(memory, config);
        const mode = threads.lying && space.mode === "none" ? "pae" : space.mode;
        return Object.defineProperty(space, "mode", { get: () => mode });
      };
      return engine;
    },
  };
});

beforeEach(() => {
  Object.assign(threads, { jobs: [], started: 0, terminated: 0, findings: new Set(), fail: false });
});

describe("x86-paging fuzz", () => {
  it("hands out each seed once, and as many scenarios as it is told", async () => {
    const signals = process.listenerCount("SIGINT");
    const { code, stdout } = await run(["fuzz", "--seed", "7", "--runs", "1234", "--workers", "2"]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: "1234 scenarios from seed 7: no difference\n" });
    expect(threads.jobs).toEqual([
      { seed: 7, runs: 500 },
      { seed: 8, runs: 500 },
      { seed: 9, runs: 234 },
    ]);
    expect([threads.started, threads.terminated]).toEqual([2, 2]);
    expect(process.listenerCount("SIGINT")).toBe(signals);
  });

  it("starts no thread that has nothing to do, and goes on at 0 behind the last seed", async () => {
    await run(["fuzz", "--seed", `${2 ** 31 - 1}`, "--runs", "600", "--workers", "8"]);
    expect(threads.jobs).toEqual([
      { seed: 2 ** 31 - 1, runs: 500 },
      { seed: 0, runs: 100 },
    ]);
    expect(threads.started).toBe(2);
  });

  it("ends with 1 at a difference, which it prints as a scenario", async () => {
    threads.findings.add(9);
    const { code, stdout } = await run(["fuzz", "--seed", "7", "--workers", "1"]);
    expect(code).toBe(1);
    expect(stdout).toBe(
      "difference at seed 9, path 3:1 (core / reference):\n  modes[0]: pae / 4level\n" +
        "const scenario: Scenario = { slots: [] };\n1500 scenarios from seed 7: a difference\n",
    );
    expect([threads.jobs.length, threads.terminated]).toEqual([3, 1]);
  });

  it("tells of the first of several differences, as JSON too", async () => {
    threads.findings.add(7).add(8);
    const { code, stdout } = await run(["fuzz", "--seed", "7", "--workers", "2", "--json"]);
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({
      seed: 7,
      scenarios: 1000,
      finding: { seed: 7, finding: { path: "3:1" } },
    });
    const none = await run(["fuzz", "--seed", "1", "--runs", "5", "--json"]);
    expect(none).toMatchObject({ code: 0, stdout: '{"version":1,"seed":1,"scenarios":5,"finding":null}\n' });
  });

  it("stops when its time is up, and not before", async () => {
    const start = performance.now();
    const { code } = await run(["fuzz", "--seconds", "1", "--workers", "1"]);
    expect(code).toBe(0);
    expect(performance.now() - start).toBeGreaterThan(990);
  });

  it("stops at Ctrl-C", async () => {
    const running = run(["fuzz", "--seed", "1", "--workers", "1"]);
    await vi.waitFor(() => expect(threads.jobs.length).toBeGreaterThan(3));
    process.emit("SIGINT");
    expect(await running).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^\d+ scenarios from seed 1: no diff/),
    });
  });

  it("ends with 2 where a thread breaks, and stops the others", async () => {
    threads.fail = true;
    const { code, stderr } = await run(["fuzz", "--workers", "2"]);
    expect({ code, stderr }).toEqual({ code: 2, stderr: "error: the thread broke\n" });
    expect(threads.terminated).toBe(2);
  });
});

describe("a thread of fuzz", () => {
  it("reports each round, with the difference where there is one", async () => {
    const { port } = threads;
    const said = (count: number) => vi.waitFor(() => expect(port.said).toHaveLength(count));
    await import("../../src/cli/fuzz-worker.js");
    expect(port.said).toEqual([]);
    port.tell({ seed: 3, runs: 40 });
    await said(1);
    expect(port.said[0]).toEqual({ seed: 3, runs: 40 });
    threads.lying = true;
    port.tell({ seed: 3, runs: 40 });
    await said(2);
    expect(port.said[1]).toMatchObject({
      seed: 3,
      runs: 40,
      finding: {
        path: expect.stringMatching(/^\d/),
        scenario: expect.stringContaining("accesses"),
        differences: [expect.stringMatching(/^modes\[\d\]: none \/ pae$/)],
      },
    });
  });

  it("runs the guest that a round names", async () => {
    const { port } = threads;
    await import("../../src/cli/fuzz-worker.js");
    port.said.length = 0;
    const job = { seed: 3, runs: 1, guest: { machine: "shadow paging", kernels: ["6.12"] } };
    port.tell(job);
    await vi.waitFor(() => expect(port.said).toEqual([job]), 20_000);
  });
});
