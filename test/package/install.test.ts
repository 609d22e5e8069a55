/** The packed package, installed in another project. */
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { elfCore, qemuNote, table64 } from "../dump/builders.js";
import { ENTRIES, install, manifest, pack, ROOT, runProgram, runTool, temporaryFolder } from "./packed.js";

const fixtures = join(ROOT, "test", "fixtures");
const dump = join(fixtures, "dumps", "i386-pae", "pt.elf.gz");
const consumer = join(ROOT, "test", "package", "consumer");

/** The first address of the fixture that QEMU has mapped, and what it is mapped to. */
const [, gva, gpa] = /^0*([0-9a-f]+) gpa: 0x([0-9a-f]+)$/m.exec(
  readFileSync(join(fixtures, "dumps", "i386-pae", "gva2gpa.txt"), "utf8"),
)!;

describe("the package, installed in another project", () => {
  const project = temporaryFolder();
  const run = (program: string, ...args: string[]) => runProgram(program, args, project.path);
  const bin = join(project.path, "node_modules", ".bin", "x86-paging");

  beforeAll(async () => {
    const { tarball } = await pack(project.path);
    await install(tarball, project.path);
    for (const file of readdirSync(consumer)) copyFileSync(join(consumer, file), join(project.path, file));
  });
  afterAll(() => project.remove());

  it("answers a script that uses every entry", async () => {
    const script = readFileSync(join(consumer, "script.mjs"), "utf8");
    for (const { name } of ENTRIES) expect(script).toContain(`from "${name}"`);

    const vectors = gunzipSync(readFileSync(join(fixtures, "walk", "pae.ndjson.gz"))).toString();
    const vector = vectors.slice(0, vectors.indexOf("\n"));
    const { stdout, stderr } = await run(process.execPath, "script.mjs", dump, `0x${gva}`, vector);
    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).toEqual({
      version: manifest.version,
      translations: [gpa, gpa, gpa, gpa, gpa],
      again: true,
      checks: true,
      vector: true,
      difference: "none",
      level: 3,
      paging: "pae",
      shared: 0,
      vm: "function",
      rules: true,
      fault: "user-mode write: refused by the rights",
      spte: "none",
      entries: 1,
    });
  });

  it("does no work when it is imported", async () => {
    const { stdout, stderr } = await run(process.execPath, "import-only.mjs", ...ENTRIES.map(({ name }) => name));
    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).toEqual({ imported: ENTRIES.length, done: [] });
  });

  it("brings the command", async () => {
    const help = await run(bin, "--help");
    expect(help).toMatchObject({ code: 0, stderr: "" });
    expect(help.stdout).toContain("Usage: x86-paging");

    expect(await run(bin, "--version")).toEqual({ code: 0, stdout: `${manifest.version}\n`, stderr: "" });
    const walk = await run(bin, "walk", dump, gva!, "--format", "gva2gpa", "--quiet");
    expect(walk).toEqual({ code: 0, stdout: `${gva!.padStart(16, "0")} gpa: 0x${gpa}\n`, stderr: "" });
  });

  it("brings the benchmarks, and says which candidates are left out", async () => {
    const walks = await run(bin, "bench", "--quick", "--only", "L1, random, tables");
    expect(walks).toMatchObject({ code: 0 });
    expect(walks.stdout).toContain("| core, batch | 1.00 |");
    expect(walks.stderr).toBe(
      "note: no native candidate: its source is not part of the package; the first row is the baseline instead\n",
    );
    const shadow = await run(bin, "bench", "--quick", "--only", "shadow fault, 128", "--json");
    expect(shadow).toMatchObject({ code: 0, stderr: "" });
    expect(JSON.parse(shadow.stdout).sections).toHaveLength(2);
    expect(await run(bin, "bench", "--only", "v86")).toEqual({
      code: 2,
      stdout: "",
      stderr: "error: no comparison with v86: it is not installed\n",
    });
  });

  it("runs the README's examples as they are", async () => {
    const [node, browser] = [...readFileSync(join(ROOT, "README.md"), "utf8").matchAll(/```js\n(.*?)```/gs)];
    writeFileSync(join(project.path, "readme-node.mjs"), node![1]!);
    const first = await run(process.execPath, "readme-node.mjs");
    expect(first).toMatchObject({ code: 0, stderr: "" });
    expect(first.stdout).toContain(`pa: ${0x201234}n`);
    expect(first.stdout.match(/va: 0n/g)).toHaveLength(1);

    // An uncompressed dump is fetched piece by piece, and a PAE space reads its PDPTEs when it is made: they lie far
    // behind the headers here.
    const tables = [0x1000n, 0x2000n, 0x3000n].map((gpa) => ({ gpa, bytes: table64({ 0: gpa + 0x1001n }) }));
    const notes = qemuNote({ cr0: 0x8001_0001n, cr3: 0x1000n, cr4: 0x20n });
    const between = { gpa: 0x10_0000n, bytes: new Uint8Array(2 ** 20) };
    const core = elfCore({ machine: 3, bits: 64, segments: [between, ...tables], notes });
    writeFileSync(join(project.path, "dump.elf"), core);
    const picked =
      'import { openAsBlob } from "node:fs";\nconst picker = { files: [await openAsBlob("dump.elf")] };\n' +
      `${browser![1]!.replace("0xffffffff81000000n", "0x123n")}\nawait picker.onchange();\n`;
    writeFileSync(join(project.path, "readme-browser.mjs"), picked);
    const second = await run(process.execPath, "readme-browser.mjs");
    expect(second.code, second.stderr).toBe(0);
    expect(second.stdout).toContain(`pa: ${0x4123n}n`);
  });

  it("runs the example of GPA aliases as it is", async () => {
    const [example] = [...readFileSync(join(ROOT, "docs", "aliases.md"), "utf8").matchAll(/```js\n(.*?)```/gs)];
    writeFileSync(join(project.path, "aliases.mjs"), example![1]!);
    const expected = [...example![1]!.matchAll(/result\); \/\/ (\w+)/g)].map((match) => `${match[1]}\n`);
    const { code, stdout, stderr } = await run(process.execPath, "aliases.mjs");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toBe(expected.join(""));
    expect(expected).toHaveLength(3);
  });

  it("brings the example of a TLB of one's own", async () => {
    const { code, stdout, stderr } = await run(process.execPath, "node_modules/x86-paging/examples/own-tlb.mjs");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^\d{5} hits, 1\d\d walks\n$/);
  });

  it("brings the example of KVM's model by hand", async () => {
    const { code, stdout, stderr } = await run(process.execPath, "node_modules/x86-paging/examples/kvm-by-hand.mjs");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain("kvm_mmu_unsync_page: sp gen 0 gfn 4 l1 8-byte q0 wux nxe ad root 0 sync\n");
    expect(stdout).toMatch(/gfn 4, level 1, access 7, unsync\n[\s\S]*audit: 0 problems\n$/);
  });

  it("brings the example of a nested guest", async () => {
    const { code, stdout, stderr } = await run(process.execPath, "node_modules/x86-paging/examples/nested-guest.mjs");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain("read of 5000: fixed\nwrite of 6000: inject to L1\n");
    expect(stdout).toMatch(/user-mode write: refused by the rights, at the final guest-physical address\n/);
    expect(stdout).toMatch(/linear 0x123: 205123\naudit: 0 problems\n$/);
  });

  it("brings the example of a snapshot", async () => {
    const { code, stdout } = await run(process.execPath, "node_modules/x86-paging/examples/snapshot.mjs");
    expect(stdout).toContain("0x5123 and 0x5123, which the tables no longer say");
    expect(stdout).toContain("after INVLPG the new one finds 0x6123\nback in place: 0x5123");
    expect(code).toBe(0);
  });

  it("brings the example of a thread for each processor, which shoots pages down", async () => {
    const { code, stdout, stderr } = await run(process.execPath, "node_modules/x86-paging/examples/threads.mjs");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^1 thread: .* [1-9]\d* pages moved, 0 stale accesses\n\d+ threads: .* 0 stale accesses\n$/);
  });

  it("brings the example of a live target behind a gdb stub", async () => {
    const { code, stdout, stderr } = await run(process.execPath, "node_modules/x86-paging/examples/gdb-stub.mjs");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toBe(
      "5level, CR3 0x2634000: 65827 ranges, 872972 KiB mapped\n144 pages read; after the target ran, 5 more for 0x10000\n",
    );
  });

  it("brings the random guests", async () => {
    const { code, stdout, stderr } = await run(
      bin,
      "fuzz",
      "--vm",
      "--seed",
      "1",
      "--runs",
      "4",
      "--workers",
      "2",
      "--json",
    );
    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).toEqual({ version: 1, seed: 1, guests: 4, finding: null });
    expect(code).toBe(0);
  });

  it("brings the threads that fuzz", async () => {
    const { code, stdout, stderr } = await run(bin, "fuzz", "--seed", "1", "--runs", "50", "--workers", "2", "--json");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(JSON.parse(stdout)).toEqual({ version: 1, seed: 1, scenarios: 50, finding: null });
  });

  it("brings the example that the tour shows", async () => {
    const { code, stdout } = await run(bin, "tour");
    expect(stdout).toContain("5-level paging");
    expect(code).toBe(0);
  });

  it.each([
    ["NodeNext", "with", undefined],
    ["NodeNext", "without", ["ES2022"]],
    ["Bundler", "with", undefined],
    ["Bundler", "without", ["ES2022"]],
  ] as const)("has types that %s resolution finds and that stand alone, %s the DOM", async (resolution, _, lib) => {
    const script = readFileSync(join(consumer, "types.ts"), "utf8");
    for (const { name } of ENTRIES) expect(script).toContain(`from "${name}"`);

    const config = `tsconfig.${resolution}-${_}.json`;
    const compilerOptions = {
      module: resolution === "Bundler" ? "ESNext" : resolution,
      moduleResolution: resolution,
      target: "ES2022",
      ...(lib === undefined ? {} : { lib }),
      // Node's types are not needed.
      types: [],
      strict: true,
      exactOptionalPropertyTypes: true,
      noEmit: true,
      skipLibCheck: false,
    };
    writeFileSync(join(project.path, config), JSON.stringify({ compilerOptions, files: ["types.ts"] }));
    const { code, stdout } = await runTool("tsc", ["-p", config], project.path);
    expect(stdout).toBe("");
    expect(code).toBe(0);
  });

  it.each([
    [
      "with the library of using",
      ["ES2022", "DOM", "ESNext.Disposable"],
      "using space = make(); space satisfies Disposable;",
    ],
    ["without it", ["ES2022", "DOM"], "const space = make(); space[Symbol.dispose]();"],
  ])("has types that can be disposed of %s", async (_, lib, use) => {
    const made = `import { type CoreSpace } from "x86-paging"; import { VirtualMachine } from "x86-paging/mmu";
      declare function make(): CoreSpace; export type Vm = VirtualMachine; { ${use} }`;
    writeFileSync(join(project.path, "using.ts"), made);
    const compilerOptions = {
      ...{ module: "NodeNext", moduleResolution: "NodeNext", target: "ES2022", lib },
      ...{ types: [], strict: true, noEmit: true, skipLibCheck: false },
    };
    writeFileSync(join(project.path, "tsconfig.using.json"), JSON.stringify({ compilerOptions, files: ["using.ts"] }));
    const { code, stdout } = await runTool("tsc", ["-p", "tsconfig.using.json"], project.path);
    expect(stdout).toBe("");
    expect(code).toBe(0);
  });
});
