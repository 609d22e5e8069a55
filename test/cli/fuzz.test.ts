/** `x86-paging fuzz --vm`: the machines that it chooses, and what it says of a rule that is broken. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { findingLines } from "../../src/cli/commands/fuzz.js";
import { VirtualMachine } from "../../src/mmu/index.js";
import { fuzzer } from "../mmu/machines/campaign.js";
import { run } from "./run-main.js";

const MACHINE = "NPT, classic direct MMU";

afterEach(() => {
  vi.restoreAllMocks();
});

describe("a campaign of random guests", () => {
  it("has machines of every group, each with a name of its own", () => {
    const { names } = fuzzer;
    expect(new Set(names).size).toBe(names.length);
    for (const part of ["shadow paging", "TDP MMU", "classic direct MMU", "a PC's memory", "a nested guest"]) {
      expect(names.some((name) => name.includes(part))).toBe(true);
    }
  });

  it("finds nothing in a machine that works", () => {
    expect(fuzzer.round(MACHINE, 1, 3, ["6.1", "6.12"])).toBeUndefined();
  });

  it("finds a page that stays mapped where the host took it away, and shrinks to the operations it takes", () => {
    vi.spyOn(VirtualMachine.prototype, "unmapRange").mockImplementation(() => {});
    const found = fuzzer.round(MACHINE, 1, 30, ["6.12"])!;
    expect(found.message).toMatch(/^operation \d+ \(.*\): Error: /);
    expect(found.sequence).toContain('"kernel":"6.12"');
    // One access maps the page, one change of the host's takes it away.
    expect(JSON.parse(`[${/"steps":(\[.*\])/.exec(found.sequence)![1]!}]`)[0]).toHaveLength(2);
    const report = { seed: 1, runs: 30, guest: { machine: MACHINE, kernels: ["6.12" as const] } };
    const finding = { path: found.path, scenario: found.sequence, differences: [found.message] };
    const lines = [...findingLines({ ...report, finding }, "6.12")];
    expect(lines[0]).toBe(`rule broken at seed 1, path ${found.path}, on ${MACHINE}:`);
    expect(lines.at(-1)).toBe(`again: x86-paging fuzz --vm --machine "${MACHINE}" --seed 1 --runs 30 --kernel 6.12`);
  });

  it("runs the same again under the same seed", () => {
    vi.spyOn(VirtualMachine.prototype, "unmapRange").mockImplementation(() => {});
    const once = fuzzer.round(MACHINE, 5, 20, ["6.1"]);
    expect(once).toBeDefined();
    expect(fuzzer.round(MACHINE, 5, 20, ["6.1"])).toEqual(once);
  });

  it("knows no machine of another name", () => {
    expect(() => fuzzer.round("an abacus", 1, 1, ["6.1"])).toThrow(RangeError);
  });
});

describe("the options of fuzz", () => {
  it("lists the machines that a word chooses, an exact name alone", async () => {
    const all = await run(["fuzz", "--vm", "--list", "--machine", "tdp mmu"]);
    expect(all.stdout.trim().split("\n")).toEqual(fuzzer.names.filter((name) => name.includes("TDP MMU")));
    const one = await run(["fuzz", "--vm", "--list", "--machine", MACHINE]);
    expect(one.stdout).toBe(`${MACHINE}\n`);
  });

  it.each([
    [["--kernel", "6.12"], /need --vm/],
    [["--machine", "nested"], /need --vm/],
    [["--list"], /need --vm/],
    [["--vm", "--machine", "abacus"], /no machine has "abacus"/],
    [["--vm", "--kernel", "5.4"], /Allowed choices are 6.1, 6.12/],
  ])("refuses %j", async (options, message) => {
    const { code, stderr } = await run(["fuzz", ...options]);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  });
});
