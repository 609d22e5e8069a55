/** Traces of several virtual machines: threads tell them apart, and nothing is put together that lies in two. */
import { describe, expect, it } from "vitest";
import { analyseTrace } from "../../src/trace/index.js";
import { codesOf, findingsOf, warningsOf } from "./found.js";
import * as t from "./writers/script.js";
import { type ScriptThread, TraceScript } from "./writers/script.js";

const TABLE = "l1 8-byte q0 wux nxe ad";
const ROOT = "l4 8-byte q0 wux nxe ad";
const A: ScriptThread = { thread: 1000 };
const B: ScriptThread = { thread: 2000, cpu: 1 };
const message = async (script: TraceScript) =>
  (await warningsOf(script)).find(({ code }) => code === "several-vms")?.message;

/** Each machine zaps a table and makes it again after two seconds; the other's turn is one second later. */
const slowTurns = (a = A, b = B) =>
  new TraceScript()
    .by(a, t.got(0x100, ROOT, "new"), t.entry())
    .by(b, t.got(0x100, ROOT, "new"), t.entry())
    .times(20, (script) => {
      for (const one of [a, b]) {
        script.by(one, t.exit(), t.fault(0x7000), t.got(0x300, TABLE, "new"), t.entry()).wait(500_000);
        script.by(one, t.exit(), t.fault(0x300008), t.zapped(0x300, TABLE), t.entry()).wait(700_000);
      }
    });

describe("threads that run one vCPU's number", () => {
  it("are two machines', whose pages are no churn of one another", async () => {
    expect(await findingsOf(slowTurns())).toEqual([]);
    expect(await message(slowTurns())).toContain(
      "2 virtual machines, told apart by the numbers of their threads: thread 1000 (vCPU 0), thread 2000 (vCPU 0)",
    );
  });

  it("are told apart by their process where the trace says it", async () => {
    const script = slowTurns({ ...A, process: 999 }, { ...B, process: 1999 });
    expect(await findingsOf(script)).toEqual([]);
    expect(await message(script)).toContain("told apart by their processes: process 999, process 1999");
    const perf = slowTurns().text.replaceAll(/CPU 0\/KVM-(\d)000 {4}(\[\d+\]) \S+/g, "CPU 0/KVM  $1000/$1001 $2");
    expect((await warningsOf(perf)).map(({ message: said }) => said).join()).toContain("process 1000, process 2000");
  });

  it("may have their roles mixed, and zap-alls at one time", async () => {
    const roles = new TraceScript().times(20, (script, index) => {
      for (const [one, nx] of [
        [A, "nxe"],
        [B, "!nxe"],
      ] as const) {
        const how = index === 0 ? "new" : "existing";
        script.by(one, t.entry(), t.exit(), t.fault(0x7000), t.got(0x300, TABLE.replace("nxe", nx), how), t.entry());
      }
    });
    expect(await codesOf(roles)).toEqual([]);
    const zaps = new TraceScript().times(18, (script) => {
      for (const one of [A, B]) script.by(one, t.entry(), t.exit("io"), t.zapAll(4), t.entry());
    });
    expect(await codesOf(zaps)).toEqual([]);
  });

  it("have findings of their own, which say whose they are", async () => {
    const script = slowTurns().times(12, (one) =>
      one.by(B, t.exit(), t.fault(0x300008), t.got(0x300, TABLE, "new"), t.zapped(0x300, TABLE), t.entry()),
    );
    const [finding, ...others] = await findingsOf(script);
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ code: "page-churn", vm: "thread 2000 (vCPU 0)", gfn: 0x300 });
    expect(finding!.message).toMatch(/^VM of thread 2000 \(vCPU 0\): gfn 300/);
  });

  it("have pages and counts as if each were alone, whichever comes first", async () => {
    const { report } = await analyseTrace(slowTurns().text);
    const { report: alone } = await analyseTrace(
      slowTurns()
        .text.split("\n")
        .filter((line) => !line.includes("-2000"))
        .join("\n"),
    );
    const doubled = alone.summary.roles.map(({ role, live, made, zapped }) => [role, 2 * live, 2 * made, 2 * zapped]);
    expect(report.summary.roles.map(({ role, live, made, zapped }) => [role, live, made, zapped])).toEqual(doubled);
  });
});

describe("vCPUs with several numbers", () => {
  it("go with the nearest threads of a machine, even where they came first", async () => {
    const vcpu = (thread: number, number: number) => (script: TraceScript) =>
      script.by({ thread }, t.entry(number), t.exit("npf", number), t.fault(0x7000, 0x100000006, number));
    const script = new TraceScript();
    for (const next of [vcpu(1000, 0), vcpu(2001, 1)]) next(script);
    script.by({ thread: 2001 }, t.got(0x300, TABLE, "new"), t.entry(1));
    for (const next of [vcpu(2000, 0), vcpu(1001, 1)]) next(script);
    // The same page in the other machine, and its own again.
    script.by({ thread: 1001 }, t.got(0x300, TABLE, "new"), t.entry(1));
    script.by({ thread: 2000 }, t.got(0x300, TABLE), t.entry());
    const { report, pages } = await analyseTrace(script.text);
    expect(report.warnings.find(({ code }) => code === "several-vms")!.message).toContain("2 virtual machines");
    expect(pages().map(({ gfn, live, made, found }) => [gfn, live, made, found])).toEqual([
      [0x300, 1, 1, 0],
      [0x300, 1, 1, 1],
    ]);
  });

  it("stay with the nearest of their own where another machine comes", async () => {
    const script = new TraceScript();
    for (const [thread, vcpu] of [
      [1000, 0],
      [1001, 1],
      [2000, 0],
    ] as const) {
      script.by({ thread }, t.entry(vcpu), t.exit("npf", vcpu), t.fault(0x7000, 0x100000006, vcpu));
      script.by({ thread }, t.got(0x300, TABLE, "new"), t.entry(vcpu));
    }
    script.by({ thread: 1001 }, t.got(0x300, TABLE), t.entry(1));
    const { pages } = await analyseTrace(script.text);
    expect(pages().map(({ vm, live, made, found }) => [vm, live, made, found])).toEqual([
      ["thread 1000 (vCPU 0)", 2, 2, 1],
      ["thread 2000 (vCPU 0)", 1, 1, 0],
    ]);
  });

  it("of one machine are one machine", async () => {
    const script = new TraceScript().times(8, (one, vcpu) =>
      one.by({ thread: 1000 + 37 * vcpu }, t.entry(vcpu), t.exit("npf", vcpu), t.got(0x100, ROOT), t.entry(vcpu)),
    );
    expect(await message(script)).toBeUndefined();
    expect((await analyseTrace(script.text)).pages()).toHaveLength(1);
  });
});

it("a machine's zap-alls are no reason for another's roots to be rebuilt", async () => {
  const script = new TraceScript().by(A, t.got(0x100, ROOT, "new"), t.entry()).by(B, t.entry());
  script.times(20, (one) =>
    one
      .by(A, t.exit("CR_ACCESS", 0, 3))
      .by(B, t.exit("io"), t.zapAll(1), t.entry())
      .by(A, t.got(0x100, ROOT), t.entry()),
  );
  expect(await codesOf(script)).toEqual(["roots-rebuilt"]);
});

describe("other threads", () => {
  it("zap pages of the machine that alone has them; what may be either's is counted in the warning", async () => {
    const worker: ScriptThread = { thread: 77, command: "kworker/0:1" };
    const script = slowTurns().by(A, t.exit(), t.fault(0x8000), t.got(0x400, TABLE, "new"), t.entry());
    script.by(worker, t.zapped(0x400, TABLE), t.zapped(0x100, ROOT), t.zapAll(3));
    const { report, pages } = await analyseTrace(script.text);
    expect(pages().find(({ gfn }) => gfn === 0x400)).toMatchObject({ live: 0, zapped: 1 });
    expect(pages().filter(({ gfn, live }) => gfn === 0x100 && live === 1)).toHaveLength(2);
    expect(report.warnings.find(({ code }) => code === "several-vms")!.message).toContain("2 events of other threads");
  });

  it("of a machine's process are its own", async () => {
    const script = slowTurns({ ...A, process: 999 }, { ...B, process: 1999 });
    script.by({ thread: 1999, process: 1999, command: "qemu" }, t.zapped(0x100, ROOT));
    const { pages } = await analyseTrace(script.text);
    expect(pages().filter(({ gfn, live }) => gfn === 0x100 && live === 1)).toHaveLength(1);
  });
});
