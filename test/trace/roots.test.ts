/** Roots: what rebuilds them, and what makes KVM give them up for good reason. */
import { describe, expect, it } from "vitest";
import { codesOf, findingsOf } from "./found.js";
import * as t from "./writers/script.js";
import { TraceScript } from "./writers/script.js";

const DIRECT = "l4 8-byte q0 direct wux nxe ad";
const SHADOW = "l4 8-byte q0 wux nxe ad";
const below = (level: number) => `l${level} 8-byte q0 direct wux nxe ad`;

/** Switches of a guest on shadow paging, each with a root that is got again; `exit` and `events` come between. */
const switches = (reason: string, info1: number, how: "new" | "existing", ...events: string[]) =>
  new TraceScript()
    .on(0, t.got(0x100, SHADOW, "new"), t.entry())
    .times(24, (script) => script.on(0, t.exit(reason, 0, info1), ...events, t.got(0x100, SHADOW, how), t.entry()));
const CR3 = "kvm_cr: cr_write 3 = 0x100000";

describe("a root of the TDP MMU that is made anew on each switch", () => {
  const nested = (...between: string[]) => {
    const fault = [3, 2, 1].flatMap((level) => [
      t.got(0, below(level), "new"),
      t.tdpChanged(0, level + 1, 0n, 0x1000827n + BigInt(level * 4096)),
    ]);
    const zaps = [3, 2, 1].map((level) => t.zapped(0, below(level)));
    return new TraceScript()
      .on(0, t.got(0, DIRECT, "new"), t.entry(), t.exit(), t.fault(0x5000), ...fault, t.entry())
      .times(20, (script) =>
        script
          .on(0, t.exit("vmrun"), t.enterL2, t.entry(), t.exit("vmmcall"), t.exitToL1, ...zaps, ...between)
          .on(0, t.got(0, DIRECT, "new"), t.entry(), t.exit(), t.fault(0x5000), ...fault, t.entry()),
      );
  };

  it("is said to be, and the pages below it are not said to be the host's doing", async () => {
    const [finding, ...others] = await findingsOf(nested());
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ code: "roots-rebuilt", count: 20, gfn: 0, role: DIRECT });
    expect(finding!.message).toContain("is made anew on 20 of 20 switches (exit to L1)");
    expect(finding!.details.join()).toContain("made again by faults");
  });

  it("is not where a zap-all or another mode lies between", async () => {
    expect(await codesOf(nested(t.zapAll(0)))).not.toContain("roots-rebuilt");
    expect(await codesOf(nested("kvm_cr: cr_write 4 = 0x6b0"))).not.toContain("roots-rebuilt");
  });
});

describe("a root that is got again after each exit", () => {
  it("is found where the exit is a CR3 load, with an event or by VMX's qualification alone", async () => {
    expect(await codesOf(switches("CR_ACCESS", 3, "existing"))).toEqual(["roots-rebuilt"]);
    expect(await codesOf(switches("CR_ACCESS", 0, "existing", CR3))).toEqual(["roots-rebuilt"]);
    expect(await codesOf(switches("CR_ACCESS", 3, "existing", CR3))).toEqual(["roots-rebuilt"]);
  });

  it("is found where it is made anew while it is there", async () => {
    expect((await findingsOf(switches("CR_ACCESS", 3, "new")))[0]).toMatchObject({ code: "roots-rebuilt", count: 24 });
  });

  it.each([
    ["MOV to CR0 of VMX", "CR_ACCESS", 0x0],
    ["MOV to CR4 of VMX", "CR_ACCESS", 0x4],
    ["CLTS", "CR_ACCESS", 0x20],
    ["LMSW", "CR_ACCESS", 0x30],
    ["a write of CR4 of SVM", "write_cr4", 0],
    ["a write of EFER, perhaps", "MSR_WRITE", 0],
    ["a write of EFER, perhaps, of SVM", "msr", 1],
    ["RSM", "rsm", 0],
    ["INVPCID", "INVPCID", 0],
  ])("is lost for good reason by %s, without an event that says so", async (_, reason, info1) => {
    expect(await codesOf(switches(reason, info1, "existing"))).toEqual([]);
  });

  it("is not lost by another register's or MSR's write, as an event says, nor by one some time before", async () => {
    const msr = "kvm_msr: msr_write 6e0 = 0x12345";
    expect(await codesOf(switches("MSR_WRITE", 0, "existing", msr))).toEqual(["roots-rebuilt"]);
    const before = new TraceScript()
      .on(0, t.got(0x100, SHADOW, "new"), t.entry())
      .times(24, (script) =>
        script.on(0, t.exit("MSR_WRITE"), t.entry()).on(0, t.exit("CR_ACCESS", 0, 3), t.got(0x100, SHADOW), t.entry()),
      );
    expect(await codesOf(before)).toEqual(["roots-rebuilt"]);
  });

  it("is not said twice, of its roots and of its roles", async () => {
    const roles = new TraceScript()
      .on(0, t.got(0x100, SHADOW, "new"), t.entry())
      .times(24, (script, index) =>
        script.on(
          0,
          t.exit("CR_ACCESS", 0, 3),
          t.got(0x100, index % 2 === 0 ? SHADOW.replace("nxe", "!nxe") : SHADOW, index === 0 ? "new" : "existing"),
          t.entry(),
        ),
      );
    expect(await findingsOf(roles)).toMatchObject([{ code: "roots-rebuilt", fields: ["efer_nx 1/0"] }]);
  });
});
