/** The commands `role` and `spte`. */
import { describe, expect, it } from "vitest";
import { ERAS } from "../../src/role/index.js";
import { spteEras } from "../../src/spte/index.js";
import { run } from "./run-main.js";

const role = (...args: string[]) => run(["role", ...args]);
const spte = (...args: string[]) => run(["spte", ...args]);

describe("x86-paging role", () => {
  it("decodes a CPU role in the 6.1 layout by default", async () => {
    const { stdout, code } = await role("0x8100003704");
    expect(code).toBe(0);
    expect(stdout.split("\n").slice(0, 4)).toEqual([
      "0x8100003704  CPU role, 5.19 to 6.13",
      "  l4 8-byte q0 wux nxe ad",
      "  level               4  paging level of the page, 5 to 1; 0 in the CPU role of an unpaged vCPU",
      "  access            wux  rights inherited from the levels above",
    ]);
    expect(stdout).toContain("  extended role 0x81\n  valid               1  ");
    expect(stdout).toContain("  efer_lma            1  EFER.LMA");
    expect(stdout).not.toContain("cr4_smep");
  });

  it("prints zero fields with --all", async () => {
    expect((await role("3704", "--all")).stdout).toContain("  passthrough         0  ");
  });

  it("decodes in the layout that --kernel names", async () => {
    const json = async (...args: string[]) => JSON.parse((await role(...args, "--json")).stdout);
    expect((await json("3714", "--kernel", "5.4")).base.fields).toMatchObject({ gpte_is_8_bytes: 1, nxe: 1 });
    expect((await json("2c3713", "--kernel", "project")).base.fields).toMatchObject({
      level: 3,
      level_promoted: 1,
      pae_root: 1,
      guest_level: 2,
    });
    expect(await json("0x8100003704")).toMatchObject({ word: "0x8100003704", layout: "5.19", ext: { word: "0x81" } });
  });

  it("names bits that the layout has no field for", async () => {
    expect((await role("100000", "--kernel", "6.14")).stdout).toContain("unknown          0x100000");
  });

  it("decodes several words", async () => {
    const { stdout } = await role("3704", "3703");
    expect(stdout.match(/page role/g)).toHaveLength(2);
  });

  it("encodes fields of both halves", async () => {
    expect((await role("encode", "level=4", "access=7", "efer_nx=1", "cr0_wp=1")).stdout).toBe("0x3704\n");
    expect(
      (await role("encode", "level=4", "access=wux", "efer_nx=1", "cr0_wp=1", "valid=1", "efer_lma=0x1")).stdout,
    ).toBe("0x8100003704\n");
    expect((await role("encode", "access=rwx", "--kernel", "mainline")).stdout).toBe("0xb00\n");
    expect(JSON.parse((await role("encode", "level=1", "--json", "--kernel", "5.0")).stdout)).toMatchObject({
      word: "0x1",
      layout: "5.0",
    });
  });

  it("converts with a report", async () => {
    expect((await role("convert", "0x3704", "--from", "6.1", "--to", "5.4")).stdout).toBe("0x3714\n");
    // --kernel says of which kernel the word is, as it does elsewhere, unless --from does.
    const words = await Promise.all(
      [
        ["--kernel", "5.4"],
        ["--from", "5.4"],
        ["--from", "5.4", "--kernel", "6.1"],
      ].map((options) => role("convert", "3714", "--to", "6.1", ...options)),
    );
    expect(words.map(({ stdout }) => stdout)).toEqual(Array(3).fill("0x3704\n"));
    expect((await role("convert", "2c3713", "--from", "project", "--to", "6.1")).stdout).toBe(
      "0x3713\n  lost     pae_root=1\n",
    );
    const { stdout } = await role("convert", "3703", "--to", "project", "--json");
    expect(JSON.parse(stdout)).toEqual({
      version: 1,
      from: "5.19",
      to: "project",
      word: "0x3703",
      converted: "0x303703",
      lost: [],
      assumed: ["pae_root"],
      unknown: "0x0",
    });
  });

  it.each([
    [["xyz"], /expected a hexadecimal number/],
    [["0x10000000000000000"], /expected at most 64 bits/],
    [[], /expected a word/],
    [["3704", "--kernel", "4.4"], /no role layout is known for kernel 4\.4/],
    [["3704", "--kernel", "newest"], /unknown kernel "newest"/],
    [["encode", "level=99"], /level=99 does not fit: expected 0 to 15/],
    [["encode", "level"], /expected field=value/],
    [["encode", "level=1", "level=2"], /level is given twice/],
    [["encode", "level=abc"], /level=abc: expected a decimal/],
    [["encode", "nxe=1"], /has no field nxe/],
    [["convert", "3704"], /--to <kernel>' not specified/],
    [["convert", "zz", "--to", "5.4"], /expected a hexadecimal number/],
  ])("refuses %j with one line and exit code 2", async (args, message) => {
    const { code, stdout, stderr } = await role(...args);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toMatch(message);
    expect(stderr.trimEnd()).not.toContain("\n");
  });

  it("shows the layouts and examples in its help", async () => {
    const { stdout, code } = await role("--help");
    expect(code).toBe(0);
    for (const era of ERAS) expect(stdout).toContain(`  ${era} `);
    expect(stdout).toContain("Examples:");
  });
});

describe("x86-paging spte", () => {
  it("decodes a leaf", async () => {
    const { stdout, code } = await spte("29cbe63", "--format", "shadow");
    expect(code).toBe(0);
    expect(stdout).toContain("00000000029cbe63  shadow: leaf\n  address 0x29cb000, rights rwx supervisor\n");
    expect(stdout).toContain("  MMU_WRITABLE   KVM may make the entry writable without its lock\n");
  });

  it("decodes an MMIO entry with its gfn, access and generation", async () => {
    const { stdout } = await spte("0xf880000036", "--format", "ept", "--l1tf", "40", "--maxphyaddr", "40");
    expect(stdout).toContain("ept: MMIO\n  gfn 0x80000 (gpa 0x80000000), access 0, generation 6\n");
    const named = await spte(
      "0xf880000036",
      "--format",
      "ept",
      "--nonpresent-mask",
      "0xf800000000",
      "--maxphyaddr",
      "40",
    );
    expect(named.stdout).toBe(stdout);
  });

  it("takes other MMIO masks", async () => {
    const { stdout } = await spte("0x8000000000001001", "--format", "npt", "--mmio-mask", "8000000000000001", "--json");
    expect(JSON.parse(stdout)).toMatchObject({ kind: "mmio", mmio: { gfn: "0x1", access: 0, generation: 0 } });
    expect(JSON.parse((await spte("36", "--format", "ept", "--mmio-value", "0", "--json")).stdout).kind).toBe(
      "not-present",
    );
  });

  it("says what is wrong with an entry", async () => {
    const { stdout } = await spte("c21", "8000000000000c21", "--format", "npt");
    expect(stdout.match(/broken {9}MMU-writable but not host-writable/g)).toHaveLength(2);
    expect((await spte("400000000000b77", "--format", "ept")).stdout).toContain("MMU-writable but not host-writable");
  });

  it("uses the level that it is given", async () => {
    const kind = async (...args: string[]) =>
      JSON.parse((await spte("5801", "--format", "shadow", "--json", ...args)).stdout).kind;
    expect([await kind(), await kind("--level", "2"), await kind("--pdpte")]).toEqual(["leaf", "non-leaf", "pdpte"]);
  });

  it("decodes entries of the kernel that --kernel names, in its words", async () => {
    const line = async (word: string, kernel: string) =>
      (await spte(word, "--format", "ept", "--kernel", kernel)).stdout.split("\n")[0]!.slice(18);
    expect([
      await line("5a0", "5.15.85"),
      await line("800000000000000", "5.12"),
      await line("80000000000005a0", "6.10"),
      await line("80000000000005a0", "6.12"),
      await line("80000000000001a0", "mainline"),
      await line("8000000000000000", "6.12"),
    ]).toEqual([
      ...new Array(3).fill("ept: removed: a change of a TDP entry is under way"),
      ...new Array(2).fill("ept: frozen: a change of a TDP entry is under way"),
      "ept: empty: not present",
    ]);
    expect((await spte("29cbc67", "--format", "shadow", "--kernel", "5.4.0")).stdout).toContain("shadow: leaf\n");
    expect((await spte("80a0000000200f77", "--format", "ept", "--kernel", "7.2")).stdout).toContain("rights rwxu\n");
    expect((await spte("80a0000000200b73", "--format", "ept", "--kernel", "7.2")).stdout).toContain("rights rw--\n");
    const json = async (...args: string[]) => JSON.parse((await spte(...args, "--format", "ept", "--json")).stdout);
    expect(await json("200f77", "--kernel", "5.9.16")).toMatchObject({ layout: "5.10", kind: "leaf", unknown: "0x0" });
    expect(await json("600000000200b77")).toMatchObject({ layout: "5.13", kind: "leaf" });
  });

  it("takes the masks from the kernel: the L1TF guard, MMIO's mark, a TDX guest", async () => {
    const json = async (...args: string[]) => JSON.parse((await spte(...args, "--json")).stdout);
    const old = ["--format", "ept", "--kernel", "5.0"];
    expect(await json("60003e008000001e", ...old)).toMatchObject({ mmio: { gfn: "0x80000", generation: 0x80006 } });
    const unguarded = await json("600000008000001e", ...old, "--nonpresent-mask", "0");
    expect(unguarded).toMatchObject({ mmio: { gfn: "0x80000", generation: 0x80006 }, brokenInvariants: [] });
    expect((await json("600000008000001e", ...old)).brokenInvariants).toHaveLength(1);
    const npt = ["--format", "npt", "--kernel", "5.10"];
    expect(await json("30800000001007", ...npt, "--mmio-value", "800000000001")).toMatchObject({
      mmio: { gfn: "0x1", access: 6 },
      unknown: "0x0",
    });
    expect(await json("38000000001007", ...npt)).toMatchObject({ kind: "mmio", mmio: { gfn: "0x1", access: 6 } });
    const tdx = ["--format", "ept", "--kernel", "6.17", "--tdx"];
    expect(await json("80000028", ...tdx)).toMatchObject({ kind: "mmio", mmio: { gfn: "0x80000", generation: 5 } });
    const tracked = await json("8650000000200b70", "--format", "ept", "--no-ad", "--kernel", "6.14");
    expect(tracked).toMatchObject({ kind: "access-tracked", rights: { read: true, write: false, execute: false } });
  });

  it("lists the layouts in its help", async () => {
    const { stdout } = await spte("--help");
    for (const { era, layout } of spteEras()) expect(stdout).toContain(`  ${era.padEnd(8)} ${layout.kernels}\n`);
  });

  it.each([
    [["1", "--format", "ept", "--kernel", "5.5.7"], /no SPTE layout is known for kernel 5.5.7/],
    [["1", "--format", "ept", "--kernel", "project"], /unknown kernel "project": expected mainline or a release/],
    [["1", "--format", "ept", "--kernel", "6.1", "--tdx"], /has no TDX guests/],
    [["1", "--format", "npt", "--kernel", "6.16", "--tdx"], /--tdx: expected --format ept/],
    [["0"], /--format <format>' not specified/],
    [["0", "--format", "pae"], /Allowed choices are shadow, npt, ept/],
    [["q", "--format", "ept"], /expected a hexadecimal number/],
    [["1", "--format", "ept", "--level", "6"], /expected a number from 1 to 5/],
    [["1", "--format", "ept", "--mmio-value", "8"], /has bits outside the mask/],
    [["1", "--format", "ept", "--mmio-mask", "800"], /expected bits 63, 51:12 and 2:0 only/],
    [["1", "--format", "npt", "--mmio-mask", "1001"], /lies in the entry's guest frame number/],
    [["--format", "ept"], /missing required argument/],
  ])("refuses %j with one line and exit code 2", async (args, message) => {
    const { code, stdout, stderr } = await spte(...args);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toMatch(message);
    expect(stderr.trimEnd()).not.toContain("\n");
  });
});
