/** Parts of a trace, and traces that are several: what is of the time that is asked for, times that go back, other kernels' text. */
import { describe, expect, it } from "vitest";
import { analyseTrace, type TraceOptions } from "../../src/trace/index.js";
import { codesOf, findingsOf, warningsOf } from "./found.js";
import * as t from "./writers/script.js";
import { TraceScript } from "./writers/script.js";

const TABLE = "l1 8-byte q0 wux nxe ad";
const ROOT = "l4 8-byte q0 wux nxe ad";
const start = () => new TraceScript().on(0, t.got(0x100, ROOT, "new"), t.entry());
const said = async (script: TraceScript | string, options?: TraceOptions) =>
  (await warningsOf(script, options)).filter(({ code }) => code !== "not-seen").map(({ code }) => code);

/** So many rounds, 100 ms each, from second 100 on. */
const churn = (rounds: number) =>
  start().times(rounds, (script) =>
    script
      .on(0, t.exit(), t.fault(0x7000), t.got(0x300, TABLE, "new"), t.entry())
      .on(0, t.exit(), t.fault(0x300008), t.zapped(0x300, TABLE), t.entry())
      .wait(99_920),
  );

describe("--since", () => {
  it("has findings of what is from then on, with their own counts and lines", async () => {
    const [finding, ...others] = await findingsOf(churn(40), { since: 102 });
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ code: "page-churn", count: 20 });
    expect(finding!.since).toBeGreaterThanOrEqual(102);
    const script = churn(40).text.split("\n");
    for (const { line } of finding!.evidence)
      expect(Number(/ (\d+\.\d+): /.exec(script[line - 1]!)![1])).toBeGreaterThanOrEqual(102);
  });

  it("has none of what was before, nor of too little within", async () => {
    expect(await codesOf(churn(40), { since: 103.5 })).toEqual([]);
    expect(await codesOf(churn(40).wait(1e6).on(0, t.exit(), t.entry()), { since: 104.5 })).toEqual([]);
  });

  const kinds: readonly (readonly [string, (script: TraceScript, index: number) => TraceScript])[] = [
    ["roots-rebuilt", (script) => script.on(0, t.exit("CR_ACCESS", 0, 3), t.got(0x100, ROOT), t.entry())],
    [
      "spurious-faults",
      (script) =>
        script.on(
          0,
          t.exit(),
          t.fault(0x7000),
          t.setSpte(9, 0x9e67n, "rwxu"),
          t.entry(),
          t.exit(),
          t.fault(0x5000),
          "kvm_mmu_spte_requested: gfn 5 pfn 1 level 1",
          t.entry(),
        ),
    ],
    [
      "huge-page-split",
      (script, index) =>
        script.on(
          0,
          t.exit(),
          t.fault(index << 21, 0x100000007),
          t.tdpChanged(index * 512, 2, 0x200ef7n, 0x5000827n),
          t.entry(),
        ),
    ],
    ["zap-all-storm", (script) => script.on(0, t.exit("io"), t.zapAll(300), t.entry())],
    ["impossible-role", (script) => script.on(0, t.exit(), t.got(1, "l3 4-byte q0 wux nxe ad"), t.entry())],
    [
      "many-roles",
      (script, index) =>
        script.on(
          0,
          t.exit(),
          t.fault(0x7000),
          t.got(0x300, index % 2 === 0 ? TABLE : TABLE.replace("nxe", "!nxe")),
          t.entry(),
        ),
    ],
    [
      "spte-contradicts-role",
      (script) =>
        script.on(
          0,
          t.exit(),
          t.fault(0x8000),
          t.got(0, TABLE.replace("w", "-")),
          t.setSpte(8, 0x8e67n, "rwxu"),
          t.entry(),
        ),
    ],
    ["sync-other-role", (script) => script.on(0, t.exit(), t.synced(0x300, TABLE.replace("nxe", "!nxe")), t.entry())],
  ];
  it.each(kinds)("of %s", async (code, make) => {
    // Twelve in the first second, and as many from the third on.
    const script = start().times(12, make).wait(3e6).times(12, make).wait(3e6).on(0, t.exit(), t.entry());
    const all = await findingsOf(script, { kernel: "6.1" });
    const part = await findingsOf(script, { kernel: "6.1", since: 102 });
    expect([...new Set(all.map((one) => one.code))]).toEqual([code]);
    expect([...new Set(part.map((one) => one.code))]).toEqual([code]);
    for (const { since, until } of part) expect([since > 102, until < 104]).toEqual([true, true]);
    expect(await codesOf(script, { kernel: "6.1", since: 105 })).toEqual([]);
  });

  it("of many-roles counts roles that are got within", async () => {
    const roles = ["wux", "-ux", "w-x", "wu-"].map((access) => TABLE.replace("wux", access));
    const touch = (script: TraceScript, role: string) =>
      script.on(0, t.exit(), t.fault(0x7000), t.got(0x300, role, "new"), t.entry());
    const script = start()
      .times(4, (one, index) => touch(one, roles[index]!))
      .wait(3e6);
    expect(await codesOf(touch(touch(script, roles[0]!), roles[1]!))).toEqual(["many-roles"]);
    expect(await codesOf(script, { since: 102 })).toEqual([]);
  });

  it("beyond the end says so, and nothing of events that there were before", async () => {
    const { report } = await analyseTrace(churn(4).text, { since: 500 });
    expect(report.warnings.map(({ message }) => message).join()).toContain(
      "no event is from --since 500 on: the last is at 100.3",
    );
    expect(report.warnings.map(({ message }) => message).join()).not.toContain("kvm_page_fault");
  });
});

describe("times that go back", () => {
  const later = (text: string, seconds: number) =>
    text.replaceAll(
      / 1(\d\d)\.(\d{6}):/g,
      (_, whole: string, rest: string) => ` ${100 + Number(whole) + seconds}.${rest}:`,
    );

  it("are another trace, which is said, and what was before is not taken for its beginning", async () => {
    const two = later(churn(6).text, 50) + churn(6).text;
    expect(await said(two)).toEqual(["out-of-order"]);
    expect(await codesOf(churn(12))).toEqual(["page-churn"]);
    expect(await codesOf(two)).toEqual([]);
  });

  it("are fine where they are other processors' and a moment late, or rounded", async () => {
    const [one, two] = [churn(2).text, churn(2).text].map((text) => text.split("\n").slice(2, -1));
    const behind = one!.flatMap((line, index) => [
      line,
      later(two![index]!, 0).replace("[000]", "[001]").replace("100.0", "099.9"),
    ]);
    expect(await said(`${behind.join("\n")}\n`)).toEqual([]);
    const rounded = start().text.replace("100.000020", "100.000009");
    expect(await said(rounded)).toEqual([]);
    expect(await said(start().text.replace("100.000020", "100.000001"))).toEqual(["out-of-order"]);
  });
});

it("texts of two kernels in one file are said, and no kernel's bounds are taken from them", async () => {
  const old =
    "       CPU 0/KVM-4000    [000] d..1.   200.000000: kvm_mmu_get_page: sp gfn 1 l1 8-byte q0 wux nxe ad root 0 sync new\n";
  const { report } = await analyseTrace(start().on(0, t.exit("npf"), t.fault(0)).text + old);
  expect(report.warnings.map(({ code }) => code)).toContain("several-kernels");
  expect([report.kernel.oldest, report.kernel.newest, report.kernel.contradictory]).toEqual([
    undefined,
    undefined,
    true,
  ]);
  expect(await said(start().text + old, { kernel: "6.1" })).not.toContain("several-kernels");
});
