/** Every finding: a trace in which its cause is planted, and the nearest one in which it is not. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { analyseTrace, FINDING_CODES, thresholds } from "../../src/trace/index.js";
import { RECORDINGS } from "../recording/fixtures.js";
import * as found from "./found.js";
import { readRecorded, stockText } from "./recorded.js";
import * as t from "./writers/script.js";
import { TraceScript } from "./writers/script.js";

const DIRECT = "l4 8-byte q0 direct wux nxe ad";
const SHADOW_ROOT = "l4 8-byte q0 wux nxe ad";
const TABLE = "l1 8-byte q0 wux nxe ad";

const findingsOf = (script: TraceScript | string, kernel?: string) =>
  found.findingsOf(script, kernel === undefined ? {} : { kernel });
const codesOf = async (script: TraceScript | string, kernel?: string) =>
  (await findingsOf(script, kernel)).map(({ code }) => code);

describe("roots-rebuilt", () => {
  /** L1 and L2 take turns; after each exit to L1 its root is got again. */
  const nested = (rounds: number, root: (index: number) => string, how: "new" | "existing" = "existing") =>
    new TraceScript()
      .on(0, t.got(0, root(0), "new"), t.entry())
      .times(rounds, (script, index) =>
        script
          .on(0, t.exit("vmrun"), t.enterL2, index === 0 ? t.got(0x104, SHADOW_ROOT, "new") : t.entry(), t.entry())
          .on(0, t.exit("hypercall"), t.exitToL1, t.got(0, root(index), how), t.entry()),
      );

  it("is a root that is got again on every switch to L1", async () => {
    const [finding, ...others] = await findingsOf(nested(20, () => DIRECT));
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ code: "roots-rebuilt", count: 20, vcpu: 0, gfn: 0, role: DIRECT, fields: [] });
    expect(finding!.message).toContain("20 of 20 switches (exit to L1)");
  });

  it("names the one field in which the roles differ", async () => {
    const [finding] = await findingsOf(nested(20, (i) => (i % 2 === 0 ? DIRECT : DIRECT.replace("8-byte", "4-byte"))));
    expect(finding).toMatchObject({ code: "roots-rebuilt", fields: ["has_4_byte_gpte 0/1"] });
  });

  it("names cr4_pae in the words of kernels until 5.0, and where their direct pages lose it", async () => {
    const old = (text: string) =>
      text
        .replaceAll("8-byte q", "q")
        .replaceAll(/l4 q0 wux/g, "l4 pae q0 wux")
        .replaceAll(/vcpu (\d), rip 0x1000/g, "vcpu $1")
        .replaceAll(/kvm_exit: vcpu \d reason (\w+) .*/g, "kvm_exit: reason $1 rip 0x1000 info 0 0")
        .replaceAll(
          /kvm_nested_vmenter: .*/g,
          "kvm_nested_vmrun: rip: 0x0 vmcb: 0x0 nrip: 0x0 int_ctl: 0x0 event_inj: 0x0 npt: on",
        );
    const script = old(nested(12, () => DIRECT).text);
    const [finding, ...others] = await findingsOf(script);
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ code: "roots-rebuilt", fields: ["cr4_pae"], role: "l4 q0 direct wux nxe ad" });
    expect(finding!.details.join()).toContain("fixed in 5.1");
    const stray = old(nested(12, (i) => (i % 2 === 0 ? DIRECT : DIRECT.replace("8-byte", "pae"))).text).replaceAll(
      "l4 pae q0 direct",
      "l4 pae q0 direct",
    );
    expect((await findingsOf(stray))[0]).toMatchObject({ code: "roots-rebuilt", fields: ["cr4_pae 0/1"] });
  });

  it("is not where roots were lost: by a zap, a zap-all, another mode, too many roots, or on few switches", async () => {
    const between = (...events: string[]) =>
      new TraceScript()
        .on(0, t.got(0, DIRECT, "new"), t.entry())
        .times(20, (script) => script.on(0, t.exit("hypercall"), t.exitToL1, ...events, t.got(0, DIRECT), t.entry()));
    expect(await codesOf(between(t.zapped(0, DIRECT)))).toEqual([]);
    expect(await codesOf(between("kvm_mmu_zap_all_fast: kvm-mmu-valid-gen 0 used_pages 1").wait(0))).not.toContain(
      "roots-rebuilt",
    );
    expect(await codesOf(between("kvm_cr: cr_write 0 = 0x80010031"))).toEqual([]);
    expect(await codesOf(nested(thresholds.ROOT_MISSES - 1, () => DIRECT))).toEqual([]);
    const many = new TraceScript().times(60, (script, index) =>
      script.on(
        0,
        t.exit("write_cr3"),
        t.got(0x100 + (index % 6), SHADOW_ROOT, index < 6 ? "new" : "existing"),
        t.entry(),
      ),
    );
    expect(await codesOf(many)).toEqual([]);
    const rare = nested(10, () => DIRECT).times(40, (script) =>
      script.on(0, t.exit("hypercall"), t.exitToL1, t.entry()),
    );
    expect(await codesOf(rare)).toEqual([]);
  });

  it("is not where events were lost in between", async () => {
    const text = nested(20, () => DIRECT).text.replaceAll(
      /^(.*kvm_nested_vmexit_inject)/gm,
      "CPU:0 [LOST 3 EVENTS]\n$1",
    );
    const { report } = await analyseTrace(text);
    expect([report.lost, report.findings]).toEqual([60, []]);
  });

  it("is seen in the events of the MMU alone, on more switches", async () => {
    const alone = (rounds: number) =>
      nested(rounds, () => DIRECT)
        .text.split("\n")
        .filter((line) => !/: kvm_(?:entry|exit|nested)/.test(line))
        .join("\n");
    const [finding] = await findingsOf(alone(20));
    expect(finding).toMatchObject({ code: "roots-rebuilt", count: 20, vcpu: -1 });
    expect(finding!.details.join()).toContain("no kvm events");
    expect(await codesOf(alone(thresholds.BLIND_ROOT_MISSES - 1))).toEqual([]);
  });

  it("is not said of the TDP MMU, which traces no roots that it finds", async () => {
    const script = new TraceScript().on(0, t.got(0, DIRECT, "new"), t.entry(), t.tdpChanged(0, 4, 0n, 0x1000907n));
    const { report } = await analyseTrace(script.text);
    expect(report.warnings.find(({ code }) => code === "not-seen")!.message).toContain("cannot be seen");
  });
});

describe("page-churn", () => {
  const rounds = (count: number, pause: number, ...before: string[]) =>
    new TraceScript().on(0, t.got(0x105, TABLE, "new"), t.entry()).times(count, (script) =>
      script
        .on(0, t.exit(), t.fault(0x105018, 0x100000007), ...before, t.zapped(0x105, TABLE), t.entry())
        .wait(pause)
        .on(0, t.exit(), t.fault(0x400000), t.got(0x105, TABLE, "new"), t.entry()),
    );

  it("is a table that is zapped and made again in a loop, by writes to it", async () => {
    const [finding, ...others] = await findingsOf(rounds(12, 1000));
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ code: "page-churn", count: 12, gfn: 0x105, role: TABLE, vcpu: 0 });
    expect(finding!.details.join()).toContain("flooding");
  });

  it("says where accessed bits are missing each time", async () => {
    const [finding] = await findingsOf(rounds(12, 10, "kvm_mmu_set_accessed_bit: gpa 105018"));
    expect(finding!.details.join()).toContain("accessed bits");
  });

  it("is not few rounds, slow ones, or those of zap-alls", async () => {
    expect(await codesOf(rounds(thresholds.CHURN_ROUNDS - 1, 10))).toEqual([]);
    expect(await codesOf(rounds(12, 1_500_000))).toEqual([]);
    expect(await codesOf(rounds(12, 10, "kvm_mmu_zap_all_fast: kvm-mmu-valid-gen 0 used_pages 1"))).toEqual([]);
  });
});

describe("many-roles", () => {
  const roles = ["wux", "-ux", "w-x", "wu-"].map((access) => TABLE.replace("wux", access));
  const shadowed = (names: readonly string[], rounds = 1) =>
    new TraceScript()
      .on(0, t.entry())
      .times(names.length * rounds, (script, index) =>
        script.on(
          0,
          t.exit(),
          t.fault(0x1000),
          t.got(0x106, names[index % names.length]!, index < names.length ? "new" : "existing"),
          t.entry(),
        ),
      );

  it("is a frame that is shadowed under many roles, with the fields that differ", async () => {
    const [finding, ...others] = await findingsOf(shadowed(roles));
    expect(others).toEqual([]);
    expect(finding).toMatchObject({
      code: "many-roles",
      count: 4,
      gfn: 0x106,
      fields: ["access wux/-ux", "access wux/w-x", "access wux/wu-"],
    });
  });

  it("is a frame that is shadowed under two in turns", async () => {
    const [finding] = await findingsOf(shadowed([TABLE, TABLE.replace("nxe", "!nxe")], 6));
    expect(finding).toMatchObject({ code: "many-roles", count: 2, fields: ["efer_nx 1/0"] });
  });

  it("is not quadrants, levels, or three sets of rights", async () => {
    expect(await codesOf(shadowed(roles.slice(0, 3)))).toEqual([]);
    expect(
      await codesOf(
        shadowed(
          [0, 1, 2, 3].map((q) => `l2 4-byte q${q} wux nxe ad`),
          8,
        ),
      ),
    ).toEqual([]);
    expect(
      await codesOf(
        shadowed(
          [1, 2, 3, 4].map((level) => `l${level} 8-byte q0 direct wux nxe ad`),
          8,
        ),
      ),
    ).toEqual([]);
  });
});

describe("spurious-faults", () => {
  const fast = (spurious: number) =>
    `fast_page_fault: vcpu 0 gva 7f000 error_code P|W|U sptep 0000000012345678 old 0x1e67 new 1e67 spurious ${spurious} fixed ${1 - spurious}`;
  const faults = (count: number, body: string, address = (_: number) => 0x7f123) =>
    new TraceScript()
      .on(0, t.setSpte(1, 0xe67n, "rwxu"), t.entry())
      .times(count, (script, index) => script.on(0, t.exit(), t.fault(address(index), 0x100000007), body, t.entry()));

  it("are faults on one page that change nothing", async () => {
    const [finding, ...others] = await findingsOf(faults(10, fast(1)));
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ code: "spurious-faults", count: 10, vcpu: 0 });
    expect(finding!.message).toContain("page 0x7f000");
    expect(await codesOf(faults(10, "kvm_mmu_spte_requested: gfn 7f pfn 1 level 1"))).toEqual(["spurious-faults"]);
  });

  it("are those for which the TDP MMU traces the entry that was there, without a change of it", async () => {
    const changed = "kvm_tdp_mmu_spte_changed: as id 0 gfn 7f level 1 old_spte 0 new_spte 600000001001f77";
    const same = t.setSpte(0x7f, 0x600000001001f77n, "rwx");
    const slow = (...before: string[]) =>
      new TraceScript()
        .on(0, t.exit(), t.fault(0x7f123, 0x182), changed, same, t.entry())
        .times(10, (script) => script.on(0, t.exit(), t.fault(0x7f123, 0x182), ...before, same, t.entry()));
    expect(await codesOf(slow())).toEqual(["spurious-faults"]);
    // An entry that did change, and one of a shadow page, were mapped.
    expect(await codesOf(slow(changed))).toEqual([]);
    expect(await codesOf(slow("kvm_mmu_pagetable_walk: addr 7f123 pferr 6 W|U"))).toEqual([]);
  });

  it("are not few, not on many pages, not fixed ones", async () => {
    expect(await codesOf(faults(thresholds.SPURIOUS_FAULTS - 1, fast(1)))).toEqual([]);
    expect(await codesOf(faults(100, fast(1), (index) => index * 4096))).toEqual([]);
    expect(await codesOf(faults(20, fast(0)))).toEqual([]);
  });
});

describe("huge-page-split", () => {
  const HUGE = 0x200ef7n;
  const TABLE_SPTE = 0x5000827n;
  const splits = (error: number, make: (gfn: number) => readonly string[], count = 10) =>
    new TraceScript()
      .on(0, t.entry())
      .times(count, (script, index) =>
        script.on(0, t.exit(), t.fault(index * 0x200000, error), ...make(index * 0x200), t.entry()),
      );

  it("tells writes, fetches and KVM's own splitting apart", async () => {
    const inFault = (gfn: number) => [t.tdpChanged(gfn, 2, HUGE, TABLE_SPTE)];
    const byWrite = await findingsOf(splits(0x100000007, inFault));
    expect(byWrite).toMatchObject([{ code: "huge-page-split", count: 10 }]);
    expect(byWrite[0]!.message).toContain("write faults");
    expect((await findingsOf(splits(0x100000015, inFault)))[0]!.message).toContain("instruction fetches");
    const twoSteps = (gfn: number) => [t.tdpChanged(gfn, 2, HUGE, 0x5a0n), t.tdpChanged(gfn, 2, 0x5a0n, TABLE_SPTE)];
    expect((await findingsOf(splits(0x100000015, twoSteps)))[0]!.message).toContain("instruction fetches");
    const eager = new TraceScript().times(12, (script, index) =>
      script.on(
        0,
        t.tdpChanged(index * 512, 2, HUGE, TABLE_SPTE),
        `kvm_mmu_split_huge_page: gfn ${(index * 512).toString(16)} spte 200ef7 level 2 errno 0`,
      ),
    );
    expect(await findingsOf(eager)).toMatchObject([{ code: "huge-page-split", count: 12 }]);
    expect((await findingsOf(eager))[0]!.message).toContain("ahead of faults");
  });

  it("sees the classic MMU's splits by the table that takes a huge page's place", async () => {
    const classic = splits(0x100000007, (gfn) => [t.setSpte(gfn, HUGE, "rwxu", 2)]).times(10, (script, index) =>
      script.on(
        0,
        t.exit(),
        t.fault(index * 0x200000, 0x100000007),
        t.got(index * 0x200, "l1 8-byte q0 direct wux nxe ad", "new"),
        t.entry(),
      ),
    );
    expect(await findingsOf(classic)).toMatchObject([{ code: "huge-page-split", count: 10 }]);
  });

  it("is not few, and not a huge page that goes away", async () => {
    expect(
      await codesOf(splits(0x100000007, (gfn) => [t.tdpChanged(gfn, 2, HUGE, TABLE_SPTE)], thresholds.SPLITS - 1)),
    ).toEqual([]);
    expect(await codesOf(splits(0x100000007, (gfn) => [t.tdpChanged(gfn, 2, HUGE, 0n)]))).toEqual([]);
    const failed = new TraceScript().times(12, (script) =>
      script.on(0, "kvm_mmu_split_huge_page: gfn 200 spte 200ef7 level 2 errno -12"),
    );
    expect(await codesOf(failed)).toEqual([]);
  });
});

describe("zap-all-storm", () => {
  const storm = (count: number, pages: number, pause: number) =>
    new TraceScript().on(0, t.entry()).times(count, (script) => script.wait(pause).on(0, t.zapAll(pages)));

  it("is many zap-alls at once, or some that find many pages", async () => {
    expect(await findingsOf(storm(40, 1, 1000))).toMatchObject([{ code: "zap-all-storm", count: 40 }]);
    expect(await findingsOf(storm(8, 300, 1000))).toMatchObject([{ code: "zap-all-storm", count: 8 }]);
  });

  it("is not what firmware does at the start, nor zap-alls now and then", async () => {
    expect(await codesOf(storm(12, 4, 1000))).toEqual([]);
    expect(await codesOf(storm(24, 4, 20_000))).toEqual([]);
    expect(await codesOf(storm(40, 1000, 15_000_000))).toEqual([]);
  });

  it("is zap-alls that go on, slowly", async () => {
    const [finding] = await findingsOf(storm(20, 1, 1_000_000));
    expect(finding).toMatchObject({ code: "zap-all-storm", count: 20 });
    expect(finding!.message).toContain("20 of them over 19 s");
    expect(await codesOf(storm(thresholds.STEADY_ZAP_ALLS - 1, 1, 1_000_000))).toEqual([]);
  });

  it("counts what faults make again, where the TDP MMU's pages are in no number of the kernel's", async () => {
    const felt = (faults: number) =>
      new TraceScript()
        .on(0, t.entry(), t.tdpChanged(0, 1, 0n, 0x1e67n))
        .times(10, (script, index) =>
          script
            .on(0, t.zapAll(0))
            .times(faults, (one, page) =>
              one.on(0, t.exit(), t.fault(page * 4096), t.tdpChanged(page, 1, 0n, 0x1e67n + BigInt(index)), t.entry()),
            ),
        );
    const [finding] = await findingsOf(felt(150));
    expect(finding).toMatchObject({ code: "zap-all-storm", count: 10 });
    expect(finding!.details.join()).toContain("not in the kernel's number of pages in use");
    expect(finding!.details.join()).not.toContain("0 shadow pages");
    expect(await codesOf(felt(20))).toEqual([]);
  });
});

describe("impossible-role", () => {
  const one = (...bodies: string[]) => new TraceScript().on(0, t.entry(), ...bodies);

  it.each([
    ["level 0", t.got(1, "l0 8-byte q0 wux nxe ad", "new"), "level 1 to 5"],
    ["level 7", t.got(1, "l7 8-byte q0 wux nxe ad", "new"), "level 1 to 5"],
    ["a quadrant of 8-byte entries", t.got(1, "l1 8-byte q1 wux nxe ad", "new"), "quadrants"],
    ["three levels of 4-byte entries", t.got(1, "l3 4-byte q0 wux nxe ad", "new"), "two levels"],
    ["quadrant 2 of a page table", t.got(1, "l1 4-byte q2 wux nxe ad", "new"), "two quadrants"],
    ["a page that is got on its way out", t.got(1, "l1 8-byte q0 wux invalid nxe ad"), "never got"],
    [
      "an unsync page of level 2",
      t.unsynced(1, "l2 8-byte q0 wux nxe ad").replace("sync", "unsync").replace("root 0 sync", "root 0 unsync"),
      "",
    ],
  ])("is %s", async (_, body, why) => {
    const event = body.replace("kvm_mmu_ununsync", "kvm_mmu_unsync");
    const findings = await findingsOf(one(event));
    expect(findings).toMatchObject([{ code: "impossible-role" }]);
    expect(findings[0]!.message).toContain(why);
  });

  it("is a role that another kernel prints, and one of an era's rules", async () => {
    expect(await codesOf(one(t.got(1, "l1 8-byte q0 rwux nxe ad", "new")), "6.1")).toEqual(["impossible-role"]);
    expect(await codesOf(one(t.got(1, "l1 8-byte q0 rwux nxe ad", "new")), "7.2")).toEqual([]);
    expect(await codesOf(one(t.got(1, TABLE, "new"), t.got(2, "l1 8-byte q0 rwux nxe ad", "new")))).toEqual([
      "impossible-role",
    ]);
    const direct = one(t.got(1, "l1 4-byte q0 direct wux nxe ad", "new"));
    expect(await codesOf(direct, "5.10")).toEqual(["impossible-role"]);
    expect(await codesOf(direct, "6.1")).toEqual([]);
  });

  it("is none of those that kernels make", async () => {
    const fine = [
      "l5 8-byte q0 direct wux nxe ad",
      "l2 4-byte q3 wux !nxe ad",
      "l1 4-byte q1 --- nxe !ad",
      "l3 8-byte q0 -ux nxe ad",
    ];
    expect(await codesOf(one(...fine.map((role, index) => t.got(index, role, "new"))))).toEqual([]);
    expect(await codesOf(one(t.zapped(1, "l4 8-byte q0 wux invalid nxe ad")))).toEqual([]);
  });
});

describe("spte-contradicts-role", () => {
  const mapped = (role: string, spte: bigint, letters: string, error = 0x100000007, reason = "npf") =>
    new TraceScript().on(
      0,
      t.entry(),
      t.exit(reason),
      t.fault(0x8000, error),
      t.got(0, role, "new"),
      t.setSpte(8, spte, letters),
      t.entry(),
    );
  const of = (access: string, more = "nxe ad") => `l1 8-byte q0 ${access} ${more}`;

  it.each([
    ["writable in a page that is not", of("-ux"), 0x8e67n, "rwxu", "writable"],
    ["executable in a page that is not", of("wu-"), 0x8e67n, "rwxu", "executable"],
    ["for the user in a page that is not", of("w-x"), 0x8e67n, "rwxu", "for the user"],
    ["without A/D bits in a page that has them", of("wux"), 0x10000000008e67n, "rwxu", "role ad"],
    ["writable, and not MMU-writable", of("wux"), 0x8a67n, "rwxu", "MMU-writable"],
  ])("is an entry %s", async (_, role, spte, letters, why) => {
    const findings = await findingsOf(mapped(role, spte, letters), "6.1");
    expect(findings).toMatchObject([{ code: "spte-contradicts-role", gfn: 8, role }]);
    expect(findings[0]!.message).toContain(why);
  });

  it("is a misconfiguration of EPT, and EPT without its mark of no A/D bits", async () => {
    const ept = (role: string, spte: bigint) => mapped(role, spte, "rwxu", 0x182, "EPT_VIOLATION");
    expect(await codesOf(ept(of("wux"), 0x600000000008b77n), "6.1")).toEqual([]);
    expect((await findingsOf(ept(of("wux"), 0x600000000008b57n), "6.1"))[0]!.message).toContain("misconfiguration");
    expect((await findingsOf(ept(of("wux", "nxe !ad"), 0x600000000008877n), "6.1"))[0]!.message).toContain("role !ad");
    expect(await codesOf(ept(of("wux", "nxe !ad"), 0x610000000008877n), "6.1")).toEqual([]);
  });

  it("is not the supervisor's write through CR0.WP, nor an entry of a page that is not known", async () => {
    expect(await codesOf(mapped(of("-ux"), 0x8e63n, "rwx-"), "6.1")).toEqual([]);
    expect(await codesOf(mapped(of("wux"), 0x8e67n, "rwxu"), "6.1")).toEqual([]);
    const unknown = new TraceScript().on(
      0,
      t.entry(),
      t.exit(),
      t.fault(0x8000),
      t.got(0, of("-ux"), "new"),
      t.got(1, TABLE),
      t.entry(),
    );
    unknown.on(0, t.exit(), t.fault(0x8000), t.setSpte(8, 0x8e67n, "rwxu", 1, 0x9000), t.entry());
    expect(await codesOf(unknown, "6.1")).toEqual([]);
  });

  it("is a reserved address bit, where the host's number of them is told", async () => {
    const { text } = mapped(of("wux"), 0x80_0000_8e67n, "rwxu");
    const codes = async (maxPhyAddr: number) =>
      (await analyseTrace(text, { kernel: "6.1", maxPhyAddr })).report.findings.map(({ code }) => code);
    expect(await codes(39)).toEqual(["spte-contradicts-role"]);
    expect(await codes(40)).toEqual([]);
  });

  it("leaves A/D bits alone where roles do not tell of them", async () => {
    const script = mapped(of("wux"), 0x10000000008e67n, "rwxu").text;
    expect(await codesOf(script, "6.1")).toEqual(["spte-contradicts-role"]);
    const plugin = script.replace(
      /sp gen 0 gfn 0 l1 8-byte q0 wux nxe ad root 0 sync new/,
      "new sp gfn 0 1 q0 wux !pae nxe wp root 0 sync",
    );
    expect(await codesOf(plugin, "6.1")).toEqual([]);
  });

  it("goes by the kernel: what is wrong in one is right in another", async () => {
    expect(await codesOf(mapped(of("wux"), 0x8c67n, "rwxu"), "5.10")).toEqual([]);
    expect(await codesOf(mapped(of("wux"), 0x8c67n, "rwxu"), "6.1")).toEqual(["spte-contradicts-role"]);
  });
});

describe("sync-other-role", () => {
  const SMALL = "l1 4-byte q0 wux nxe ad";
  const base = () =>
    new TraceScript()
      .on(
        0,
        t.got(0x100, SHADOW_ROOT, "new"),
        t.entry(),
        t.exit("PF excp"),
        t.fault(0x8000, 6),
        t.got(0x105, TABLE, "new"),
      )
      .on(0, t.unsynced(0x105, TABLE), t.entry());

  it("is a sync of another context's page among those of one exit", async () => {
    const script = base().on(
      0,
      t.exit("PF excp"),
      t.fault(0x9000, 6),
      t.got(0x106, TABLE, "new"),
      t.synced(0x107, SMALL),
      t.entry(),
    );
    const [finding, ...others] = await findingsOf(script);
    expect(others).toEqual([]);
    expect(finding).toMatchObject({
      code: "sync-other-role",
      gfn: 0x107,
      role: SMALL,
      fields: ["has_4_byte_gpte 1/0"],
    });
  });

  it("is a sync of a role that the frame's page that is out of sync does not have", async () => {
    const script = base().on(0, t.exit("PF excp"), t.synced(0x105, TABLE.replace("nxe", "!nxe")), t.entry());
    expect(await findingsOf(script)).toMatchObject([{ code: "sync-other-role", fields: ["efer_nx 0/1"] }]);
  });

  it("is a sync of a direct page", async () => {
    const script = base().on(
      0,
      t.exit("PF excp"),
      t.synced(0x200, "l1 8-byte q0 direct wux nxe ad").replace("unsync", "sync"),
      t.entry(),
    );
    expect(await codesOf(script)).toContain("sync-other-role");
  });

  it("is not a sync of its own, nor one that ends a zap", async () => {
    expect(await codesOf(base().on(0, t.exit("PF excp"), t.synced(0x105, TABLE), t.entry()))).toEqual([]);
    const zap = base().on(0, t.exit("PF excp"), t.fault(0x9000, 6), t.got(0x110, "l1 8-byte q0 wux !nxe ad", "new"));
    zap.on(0, t.zapped(0x105, TABLE, { sync: "unsync" }), t.synced(0x105, TABLE), t.entry());
    expect(await codesOf(zap)).toEqual([]);
  });
});

it("every finding has a test here", () => {
  expect([...FINDING_CODES].sort()).toEqual(
    [
      ...["roots-rebuilt", "page-churn", "many-roles", "spurious-faults", "huge-page-split", "zap-all-storm"],
      ...["impossible-role", "spte-contradicts-role", "sync-other-role"],
    ].sort(),
  );
});

describe("a recorded run of a nested guest", () => {
  const recorded = () => stockText(readRecorded(join(RECORDINGS, "g3_nested_32", "npt1-tdp0")).text).split("\n");

  it("shows roots that are rebuilt where L1's root is got again after each exit to it", async () => {
    const lines = recorded().flatMap((line) => {
      if (!line.includes(": kvm_nested_vmexit_inject: ")) return [line];
      return [line, line.replace(/: kvm_nested.*/, `: ${t.got(0, "l4 8-byte q0 direct wux nxe ad")}`)];
    });
    const found = await findingsOf(lines.join("\n"));
    expect(found).toMatchObject([{ code: "roots-rebuilt", gfn: 0, role: "l4 8-byte q0 direct wux nxe ad", vcpu: 0 }]);
    expect(found[0]!.count).toBeGreaterThan(20);
  });

  it("shows an entry that got a right that its page does not have", async () => {
    const lines = recorded();
    const page = lines.findIndex((line) => /kvm_mmu_get_page: sp .* l1 4-byte q0 wux .* new/.test(line));
    const changed = lines.map((line, index) => (index === page ? line.replace("wux", "w-x") : line));
    expect(new Set(await codesOf(changed.join("\n")))).toEqual(new Set(["spte-contradicts-role"]));
  });
});
