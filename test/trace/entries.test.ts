/** Entries against their pages' roles, against the processor and against what the event itself says; what can be out of sync. */
import { describe, expect, it } from "vitest";
import { codesOf, findingsOf } from "./found.js";
import * as t from "./writers/script.js";
import { TraceScript } from "./writers/script.js";

const ROOT = "l4 8-byte q0 wux nxe ad";
const TABLE = "l1 8-byte q0 wux nxe ad";
const direct = (level: number) => `l${level} 8-byte q0 direct wux nxe ad`;

/** A fault that sets an entry: under NPT or EPT, of the classic MMU or the TDP MMU. */
function set(spte: bigint, letters: string, { ept = false, level = 1, tdp = false } = {}): TraceScript {
  const gfn = level === 1 ? 8 : 0x200;
  const fault = ept ? [t.exit("EPT_VIOLATION"), t.fault(gfn * 4096, 0x182)] : [t.exit(), t.fault(gfn * 4096)];
  const changed = tdp ? [t.tdpChanged(gfn, level, 0n, spte)] : [];
  return new TraceScript()
    .on(0, t.got(0, direct(4), "new"), t.entry(), ...fault, t.got(0, direct(level), "new"), ...changed)
    .on(0, t.setSpte(gfn, spte, letters, level), t.entry());
}
const NPT = 0x8e67n;
const EPT = 0x600000000008b77n;

describe("spte-contradicts-role", () => {
  it.each([
    ["that maps memory at level 2 without PS", set(0x200e67n, "rwxu", { level: 2 }), "without PS"],
    ["the same of EPT", set(0x600000000200b77n, "rwx", { level: 2, ept: true }), "without PS"],
    ["that the processor alone takes for present", set(0x8667n, "rwxu"), "without the MMU-present bit"],
    ["the same of EPT", set(EPT - 0x800n, "rwx", { ept: true }), "without the MMU-present bit"],
    ["whose event says that it is not writable", set(NPT, "r-xu"), "lack w"],
    ["whose event says that it is not executable", set(NPT, "rw-u"), "lack x"],
    ["whose event says that it is not the user's", set(NPT, "rwx-"), "lack u"],
    ["whose event says that it is executable", set(NPT | (1n << 63n), "rwxu"), "have x"],
    ["of EPT whose event says that it is executable", set(EPT - 4n, "rwx", { ept: true }), "have x"],
  ])("is an entry %s", async (_, script, why) => {
    const findings = await findingsOf(script, { kernel: "6.1" });
    expect(findings).toMatchObject([{ code: "spte-contradicts-role" }]);
    expect(findings[0]!.message).toContain(why);
  });

  it("is one finding of an entry that the TDP MMU tells of twice", async () => {
    const findings = await findingsOf(set(EPT - 0x800n, "rwx", { ept: true, tdp: true }), { kernel: "6.1" });
    expect(findings).toMatchObject([{ code: "spte-contradicts-role", count: 1 }]);
    expect(findings[0]!.evidence).toHaveLength(2);
  });

  it.each([
    ["a table of the TDP MMU", new TraceScript().on(0, t.exit(), t.fault(0), t.tdpChanged(0, 2, 0n, 0x5000827n))],
    ["a huge page", set(0x200ee7n, "rwxu", { level: 2 })],
    ["an entry before 5.13, which had no such bit", set(0x8425n, "r-xu"), "5.10"],
    ["an MMIO entry", new TraceScript().on(0, t.exit(), t.fault(0), t.tdpChanged(0, 1, 0n, 0x8000000000001n))],
    [
      "MMIO of EPT",
      new TraceScript().on(0, t.exit("EPT_VIOLATION"), t.fault(0, 0x181), t.tdpChanged(0, 1, 0n, 0x606n)),
    ],
    ["an entry for the supervisor that may not execute", set(0x8000000000008e63n, "rw--")],
  ])("is not %s", async (_, script, kernel = "6.1") => {
    expect(await codesOf(script, { kernel })).toEqual([]);
  });
});

describe("impossible-role", () => {
  it.each([
    ["a table of level 2 that is made unsync", t.unsynced(0x102, "l2 8-byte q0 wux nxe ad")],
    ["a direct page that is made unsync", t.unsynced(0, direct(1))],
    ["a table of level 2 that is synced", t.synced(0x102, "l2 8-byte q0 wux nxe ad")],
  ])("is %s", async (_, body) => {
    const findings = await findingsOf(new TraceScript().on(0, t.got(0x100, ROOT, "new"), t.entry(), t.exit(), body));
    expect(findings).toMatchObject([{ code: "impossible-role", count: 1 }]);
    expect(findings[0]!.message).toContain("only shadow pages of level 1");
  });
});

describe("sync-other-role", () => {
  /** A vCPU has a table in two roles, on the root of one of them. */
  const both = (other: string) =>
    new TraceScript()
      .on(0, t.got(0x100, ROOT, "new"), t.entry())
      .on(
        0,
        ...[TABLE, other].flatMap((role) => [
          ...[t.exit("PF excp"), t.fault(0x7000, 2), t.got(0x300, role, "new"), t.unsynced(0x300, role), t.entry()],
        ]),
      );
  const SMALL = "l1 4-byte q0 wux nxe ad";

  it.each([
    ["in a fault", [t.exit("PF excp"), t.fault(0x7000, 2)]],
    ["at any exit", [t.exit("interrupt")]],
    ["at a CR3 load, which does not change the mode", [t.exit("CR_ACCESS"), "kvm_cr: cr_write 3 = 0x100000"]],
  ])("is a page of a role that the vCPU had, but does not run in: %s", async (_, before) => {
    for (const role of [SMALL, "l1 8-byte q0 wux !nxe ad", "l1 8-byte q0 wux nxe !ad"]) {
      expect(await codesOf(both(role).on(0, ...before, t.synced(0x300, role), t.entry()))).toEqual(["sync-other-role"]);
    }
    expect(await codesOf(both(SMALL).on(0, ...before, t.synced(0x300, TABLE), t.entry()))).toEqual([]);
    expect(await codesOf(both("l1 8-byte q0 -ux nxe ad").on(0, ...before, t.synced(0x300, TABLE), t.entry()))).toEqual(
      [],
    );
  });

  it("is not one where the mode may be another: after CR0, CR4, EFER, in L2, or with events lost", async () => {
    for (const before of [["kvm_cr: cr_write 4 = 0x20"], ["kvm_msr: msr_write c0000080 = 0x0"], [t.enterL2]]) {
      const script = both(SMALL).on(0, t.exit("other"), ...before, t.synced(0x300, SMALL), t.entry());
      expect(await codesOf(script)).toEqual([]);
    }
  });
});
