/** The command `conform`: what it takes, prints and ends with. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { temporaryFolder } from "../temporary.js";
import { run } from "./run-main.js";

const fixtures = new URL("../fixtures/walk/", import.meta.url).pathname;
const { directory: folder, file, folder: emptyFolder } = temporaryFolder();
const lines = gunzipSync(readFileSync(join(fixtures, "pae.ndjson.gz")))
  .toString()
  .trimEnd()
  .split("\n")
  .slice(0, 40);

const changed = (changes: object) => JSON.stringify({ ...JSON.parse(lines[0]!), ...changes });

describe("x86-paging conform", () => {
  it("ends with the sum over files and engines", async () => {
    const plain = file("plain.ndjson", lines.join("\n"));
    const packed = file("packed.ndjson.gz", gzipSync(lines.slice(0, 10).join("\n")));
    const { code, stdout } = await run(["conform", plain, packed, "--engine", "both"]);
    expect(code).toBe(0);
    expect(stdout.trimEnd().split("\n").at(-1)).toBe("100 passed, 0 failed");
    expect(stdout).toContain(`pass  ${plain}  reference  40 passed, 0 failed`);
  });

  it("judges every fast way of the core", async () => {
    const { code, stdout } = await run(["conform", fixtures, "--kernel", "all"]);
    expect(code).toBe(0);
    const ways = new Set([...stdout.matchAll(/ {2}wasm ([a-z-]+) {2}/g)].map((match) => match[1]));
    expect([...ways]).toEqual(["full", "single", "tlb", "batch-scalar", "batch-phases"]);
    expect(stdout.trimEnd().split("\n").at(-1)).toMatch(/^\d{4,} passed, 0 failed$/);
  });

  it("takes a folder", async () => {
    const { code, stdout } = await run(["conform", fixtures]);
    const printed = stdout.trimEnd().split("\n");
    expect([code, printed.filter((line) => line.startsWith("pass ")).length]).toEqual([0, 4]);
  });

  it("counts what passes by a known exception, and says why", async () => {
    const { stdout } = await run(["conform", fixtures]);
    expect(stdout).toMatch(/^exception pkrs-user-access: [1-9]\d* of them \(the emulator reports no PK/m);
    const json = await run(["conform", fixtures, "--json"]);
    const sum = JSON.parse(json.stdout.trimEnd().split("\n").at(-1)!);
    expect(sum.exceptions["pkrs-user-access"]).toBeGreaterThan(0);
    const both = await run(["conform", fixtures, fixtures, "--json", "--engine", "both"]);
    const { exceptions } = JSON.parse(both.stdout.trimEnd().split("\n").at(-1)!);
    expect(exceptions["pkrs-user-access"]).toBe(4 * sum.exceptions["pkrs-user-access"]);
  });

  it("lists the first differences, and ends with 1", async () => {
    const vectors = lines.map((line) => JSON.parse(line));
    const chosen = vectors.find((vector) => vector.result.ok);
    chosen.result.pa = "0x123000";
    const path = file("wrong.ndjson", JSON.stringify(chosen));
    const { code, stdout } = await run(["conform", path, "--engine", "both"]);
    expect(code).toBe(1);
    expect(stdout).toContain(chosen.id);
    expect(stdout).toContain("0x123000");
    expect(stdout.trimEnd().split("\n").at(-1)).toBe("0 passed, 2 failed");
    const json = await run(["conform", path, "--json"]);
    expect(
      json.stdout
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toMatchObject([
      { file: path, engine: "wasm", failed: 1, failures: [{ id: chosen.id }] },
      { passed: 0, failed: 1 },
    ]);
  });

  it("shows as many failures of a file as it is told, and counts all", async () => {
    const wrong = JSON.stringify({
      ...JSON.parse(lines.find((line) => JSON.parse(line).result.ok)!),
      result: { ok: true, pa: "0x1" },
    });
    const path = file("many.ndjson", `${wrong}\n`.repeat(7));
    for (const [options, shown] of [
      [[], 5],
      [["--show", "0"], 0],
      [["--show", "6"], 6],
    ] as const) {
      const { code, stdout } = await run(["conform", path, ...options]);
      const printed = stdout.trimEnd().split("\n");
      expect([code, printed.at(-1), printed.filter((line) => /^ {4}result/.test(line)).length]).toEqual([
        1,
        "0 passed, 7 failed",
        shown,
      ]);
    }
  });

  it("takes *.ndjson and *.ndjson.gz of a folder, and nothing else in it", async () => {
    const mixed = emptyFolder();
    for (const name of ["b.ndjson", "x.ndjson.bak", "y.ndjson.gz.tmp", "notes.txt"]) {
      writeFileSync(join(mixed, name), name.startsWith("b") ? lines[0]! : "no vectors");
    }
    writeFileSync(join(mixed, "a.ndjson.gz"), gzipSync(lines[1]!));
    const { code, stdout } = await run(["conform", mixed]);
    expect(code).toBe(0);
    expect(stdout.match(/\S*ndjson\S*/g)).toEqual([join(mixed, "a.ndjson.gz"), join(mixed, "b.ndjson")]);
  });

  it("shows hostile names of vectors as text, and keeps JSON valid", async () => {
    const id = "\u001b[2J\u009b\n\u202e";
    const vector = lines.map((line) => JSON.parse(line)).find(({ result }) => result.ok);
    const path = file("hostile.ndjson", JSON.stringify({ ...vector, id, result: { ok: true, pa: "0x123000" } }));
    const { stdout } = await run(["conform", path]);
    expect(stdout.split("\n")[1]).toBe("  \\u001b[2J\\u009b\\u000a\\u202e");
    const json = (await run(["conform", path, "--json"])).stdout.split("\n")[0]!;
    expect(json).toContain("\\u001b[2J\\u009b\\n\\u202e");
    expect(JSON.parse(json).failures[0].id).toBe(id);
  });

  it("judges the other files where one is broken, and ends with 2", async () => {
    const broken = file("broken.ndjson", `${lines[0]}\n{`);
    const sound = file("sound.ndjson", lines.slice(0, 3).join("\n"));
    const { code, stdout, stderr } = await run(["conform", broken, sound, "--engine", "both"]);
    expect(code).toBe(2);
    expect(stderr).toBe(`error: ${broken}: line 2: is not JSON\n`);
    expect(stdout.trimEnd().split("\n").at(-1)).toBe("6 passed, 0 failed, 1 of 2 files unreadable");
    const json = await run(["conform", broken, sound, "--json"]);
    expect(json.code).toBe(2);
    expect(JSON.parse(json.stdout.trimEnd().split("\n").at(-1)!)).toEqual({
      ...{ version: 1, passed: 3, failed: 0, unreadable: 1 },
    });
  });

  it.each([
    ["no such file", () => join(folder, "missing"), /missing: expected a file or folder, found ENOENT/],
    ["an empty file", () => file("empty.ndjson", ""), /expected vectors, found none/],
    ["an empty folder", emptyFolder, /expected \*\.ndjson or \*\.ndjson\.gz files/],
    ["no JSON", () => file("text.ndjson", `${lines[0]}\nhello`), /text\.ndjson: line 2: is not JSON/],
    [
      "bytes behind the gzip data",
      () => file("more.ndjson.gz", Buffer.concat([gzipSync(lines[0]!), new Uint8Array(9), gzipSync(lines[1]!)])),
      /more\.ndjson\.gz: offset 0x\w+: expected the end of the gzip data/,
    ],
    [
      "text that inflates without end",
      () =>
        file(
          "bomb.ndjson.gz",
          gzipSync(
            `${lines[0]}${" ".repeat(9e5)}
`.repeat(80),
          ),
        ),
      /expected at most 67108864 bytes of inflated text/,
    ],
    ["a line without end", () => file("long.ndjson", "1".repeat(2 ** 20 + 1)), /line 1: expected at most 1048576 char/],
    ["lines without content", () => file("blank.ndjson", "\n".repeat(2 ** 20 + 1)), /at most 1048576 empty lines/],
    ["deep JSON", () => file("deep.ndjson", `{"mode":${"[".repeat(4e5)}${"]".repeat(4e5)}}`), /mode is an array of 1/],
    ["many entries", () => file("entries.ndjson", changed({ entries: Array(65).fill({}) })), /at most 64 objects/],
    [
      "registers that no processor has",
      () => file("cr0.ndjson", changed({ cr0: "0x80000000" })),
      /line 1: cannot be set up/,
    ],
    ["a gzip that breaks off", () => file("cut.ndjson.gz", gzipSync(lines.join("\n")).subarray(0, 900)), /break off/],
  ])("refuses %s with one line and 2", async (_name, make, message) => {
    const { code, stderr } = await run(["conform", make()]);
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });
});
