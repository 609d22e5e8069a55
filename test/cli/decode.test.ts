/** The commands pte and decode. */
import { describe, expect, it } from "vitest";
import { run } from "./run-main.js";

const lines = async (...args: string[]) => (await run(args)).stdout.trimEnd().split("\n");

describe("pte", () => {
  it("decodes entries of each format", async () => {
    const { code, stdout } = await run(["pte", "80000000036008e7", "--level", "2", "--maxphyaddr", "36"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^80000000036008e7 {2}PDE, 4level: 2M page at 0x3600000\n/);
    expect(stdout).toMatch(/XD 63 +execute-disable/);
    expect((await run(["pte", "1000001001", "--maxphyaddr", "36"])).stdout).toMatch(
      /refused +reserved bits are set: 0x1000000000 \(bits 51:36\)/,
    );
    expect((await run(["pte", "36", "--mode", "ept"])).stdout).toMatch(/MEMTYPE 5:3 +memory type = 0x6, write back/);
    expect((await run(["pte", "80", "0", "--mode", "pae"])).stdout).toMatch(
      /not present \(the other.*\n\n0{16}.*not present\n/,
    );
    expect(JSON.parse((await run(["pte", "1067", "--level", "3", "--json"])).stdout)).toMatchObject({
      kind: "table",
      address: "0x1000",
      name: "PDPTE",
      fields: [{ name: "P", low: 0, width: 1, value: "0x1", use: "read" }, {}, {}, {}, { name: "IGNORED", low: 6 }],
      problems: [],
    });
  });

  it("tells PAT of a large page and reserved bits below its address apart", async () => {
    const [plain, pat, reserved] = await Promise.all(
      ["2001e3", "2011e3", "2021e3"].map((low) => lines("pte", `8000000000${low}`, "--level", "2")),
    );
    expect(plain!.filter((line) => /PAT|RESERVED|refused/.test(line))).toEqual([]);
    expect(pat!.some((line) => /^ {2}PAT 12 /.test(line))).toBe(true);
    expect(reserved![0]).toMatch(/2M page at 0x200000, refused$/);
    expect(reserved!.at(-1)).toMatch(/refused +reserved bits are set: 0x2000 \(bits 20:13\)/);
  });

  it("names what a table's entry has no use for as ignored, and PS of a PML4E as reserved", async () => {
    const found = await lines("pte", "e7", "--level", "4");
    expect(found[0]).toBe("00000000000000e7  PML4E, 4level: table at 0x0, refused");
    expect(found.some((line) => /large page/.test(line))).toBe(false);
    expect(found.some((line) => /^ {2}IGNORED 6 /.test(line))).toBe(true);
    expect(found.some((line) => /^ {2}RESERVED 7 /.test(line))).toBe(true);
    expect(await lines("pte", "7800000000000103", "--level", "2")).toEqual([
      expect.stringMatching(/table at 0x0$/),
      expect.stringMatching(/^ {2}P 0 /),
      expect.stringMatching(/^ {2}RW 1 /),
      expect.stringMatching(/^ {2}IGNORED 11:8 /),
      expect.stringMatching(/^ {2}IGNORED 62:52 /),
    ]);
  });

  it.each([
    [["8000000000000001", "--no-nx"], /RESERVED 63/],
    [["81", "--level", "3", "--no-1g"], /table at 0x0, refused\n[\s\S]*RESERVED 7/],
    [["800000000000001", "--no-keys"], /IGNORED 62:52/],
    [["101", "--level", "4", "--amd"], /RESERVED 8:7/],
    [["402081", "--mode", "32bit", "--level", "2"], /4M page at 0x100400000\n/],
    [["402081", "--mode", "32bit", "--level", "2", "--no-pse36"], /RESERVED 21:13/],
    [["81", "--mode", "32bit", "--level", "2", "--no-pse"], /table at 0x0\n[\s\S]*IGNORED 11:6/],
    [["5400", "--mode", "ept"], /not present/],
    [["5400", "--mode", "ept", "--mbec"], /4K page at 0x5000/],
    [["8000000001003", "--encryption-mask", "8000000000000"], /4K page at 0x1000\n[\s\S]*C 51 /],
    [["21", "--mode", "pae", "--level", "3"], /RESERVED 8:5/],
    [["4", "--mode", "ept", "--level", "2", "--all"], /RESERVED 6:3 +must be 0 = 0x0/],
  ])("%j", async (args, expected) => {
    const { code, stdout } = await run(["pte", ...args]);
    expect(code).toBe(0);
    expect(stdout).toMatch(expected);
  });
});

describe("decode", () => {
  it("shows fields, a summary and what cannot be", async () => {
    expect(await lines("decode", "error-code", "7", "8")).toEqual([
      "00000007  Page-fault error code: user-mode write: refused by the rights",
      expect.stringMatching(/^ {2}P 0 /),
      expect.stringMatching(/^ {2}W 1 /),
      expect.stringMatching(/^ {2}U 2 /),
      "",
      expect.stringMatching(/^00000008 {2}Page-fault/),
      expect.stringMatching(/^ {2}RSVD 3 /),
      expect.stringMatching(/^ {2}refused +RSVD without P/),
    ]);
  });

  it("has --all and --json", async () => {
    expect((await lines("decode", "cr0", "0", "--all")).length).toBe(12);
    expect(JSON.parse((await run(["decode", "eptp", "1005e", "--json"])).stdout)).toMatchObject({
      word: "0x1005e",
      kind: "eptp",
      summary: "root table at 0x10000",
      fields: [{ name: "MEMTYPE", value: "0x6", text: "write back" }, { name: "WALK_LENGTH" }, { name: "AD" }, {}],
      problems: [],
    });
  });

  it("refuses kinds and words that do not exist", async () => {
    expect(await run(["decode", "cr2", "0"])).toMatchObject({ code: 2, stdout: "" });
    expect(await run(["decode", "pkru", "100000000"])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/0x100000000: expected 32 bits for pkru/),
    });
  });
});
