/** What the dump's worker answers, against the command line; without a browser. */
import { openAsBlob } from "node:fs";
import { basename, join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { SpaceAnswer, WalkQuestion } from "../../web/engine/dump/answers.js";
import { DumpWorker } from "../../web/engine/dump/dump-worker.js";
import type { InputFile } from "../../web/engine/served-file.js";
import { run } from "../cli/run-main.js";
import { elfCore, qemuNote, table64 } from "../dump/builders.js";
import { dumpOf, SYSTEM } from "../dump/isolated-guest.js";
import { temporaryFolder } from "../temporary.js";

const temporary = temporaryFolder();
const FIXTURES = join(import.meta.dirname, "..", "fixtures");
const fixture = (name: string) => join(FIXTURES, "dumps", name, "pt.elf.gz");
let ids = 0;
const task = (onProgress: (done: number | undefined) => void = () => {}) => ({ id: ++ids, onProgress });

async function fileOf(path: string): Promise<InputFile> {
  return Object.assign(await openAsBlob(path), { name: basename(path) }) as unknown as InputFile;
}

function fileWith(bytes: Uint8Array, name: string): InputFile {
  return Object.assign(new Blob([bytes as BlobPart]), { name }) as unknown as InputFile;
}

// biome-ignore lint/suspicious/noExplicitAny: what the command prints, whose schema has its own test
type Printed = Record<string, any>;

async function jsonOf(...args: string[]): Promise<Printed[]> {
  const { stdout } = await run(args);
  return stdout
    .trimEnd()
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}

const hex = (value: bigint) => `0x${value.toString(16)}`;

describe.each(["amd64-1g", "amd64-4l", "amd64-la57", "amd64-swap", "i386-nopae", "i386-pae"])("%s", (name) => {
  const path = fixture(name);
  const worker = new DumpWorker();
  let space: SpaceAnswer;
  let dump: number;
  let list: Printed[];
  beforeAll(async () => {
    const opened = await worker.open(task(), [await fileOf(path)], {});
    dump = opened.id;
    space = await worker.choose(task(), dump, {});
    list = await jsonOf("maps", path, "--json", "-q");
  });

  it("has the registers and their origins that info shows", async () => {
    const { stdout } = await run(["info", path, "--json"]);
    const { registers, facts } = JSON.parse(stdout);
    expect(space.mode).toBe(registers.mode);
    for (const one of ["cr0", "cr3", "cr4", "efer"] as const)
      expect({ value: hex(space.registers[one]), origin: space.registers.origin[one] }).toEqual(registers[one]);
    const opened = await worker.open(task(), [await fileOf(path)], {});
    expect(opened.facts).toEqual(expect.arrayContaining(facts));
    dump = opened.id;
    space = await worker.choose(task(), dump, {});
  });

  it("lists and exports what maps lists", async () => {
    const { count, ended } = await worker.list(task(), space.id);
    expect({ count, ended }).toEqual({ count: list.length, ended: "whole" });
    const text = async (format: "csv" | "json") => (await worker.export(task(), space.id, format)).text();
    expect(
      (await text("json"))
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toEqual(list);
    expect(await text("csv")).toBe((await run(["maps", path, "--csv", "-q"])).stdout);
    const rows = worker.rows(space.id, 0, count);
    expect(rows.map(({ va, pa, size }) => [hex(va), hex(pa), Number(size)])).toEqual(
      list.map(({ va, pa, size }) => [va, pa, size]),
    );
  });

  it.each([
    ["user", "--user"],
    ["kernel", "--kernel"],
    ["write", "--writable"],
    ["execute", "--executable"],
    ["wx", "--wx"],
  ] as const)("chooses %s as maps %s does, in every order", async (filter, option) => {
    const expected = await jsonOf("maps", path, "--json", "-q", option);
    const shown = await worker.arrange(task(), space.id, [filter], "address");
    expect(worker.rows(space.id, 0, shown).map(({ va }) => hex(va))).toEqual(expected.map(({ va }) => va));
    for (const order of ["physical", "size"] as const) {
      expect(await worker.arrange(task(), space.id, [filter], order)).toBe(shown);
      const rows = worker.rows(space.id, 0, shown);
      const keys = rows.map(({ pa, size }) => (order === "physical" ? pa : -size));
      expect(keys).toEqual([...keys].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0)));
      expect(new Set(rows.map(({ va }) => va)).size).toBe(shown);
    }
    await worker.arrange(task(), space.id, [], "address");
  });

  it.each([
    ["any", "read", false, []],
    ["user's write", "write", true, ["--access", "write", "--user"]],
    ["fetch", "fetch", false, ["--access", "fetch"]],
    ["shadow-stack read", "shadow-stack-read", false, ["--access", "shadow-stack-read"]],
  ] as const)("walks as the command line does: %s", async (kind, access, user, options) => {
    const step = Math.max(1, Math.floor(list.length / 12));
    const chosen = list.filter((_, index) => index % step === 0).map(({ va }) => BigInt(va));
    const addresses = [...chosen.map((va) => va + 0x123n), 0x1000n, 0x7fff_f000n];
    const expected = await jsonOf(
      "walk",
      path,
      "-q",
      "--json",
      "--explain",
      "--partial",
      ...addresses.map(hex),
      ...options,
    );
    for (const [index, address] of addresses.entries()) {
      const question: WalkQuestion = {
        address,
        access: kind === "any" ? "any" : access,
        user,
        ac: false,
        strict: false,
      };
      const { explanation } = await worker.walk(space.id, question);
      const { walk, checks, code } = explanation;
      const cli = expected[index] as unknown as {
        steps: { address: string; entry: string }[];
        result: { mapped: boolean; gpa?: string; errorCode?: string };
        explanation: { checks: { text: string; passed: boolean }[]; errorCode: object[] };
      };
      expect(walk.steps.map((one) => [hex(one.address), hex(one.entry)])).toEqual(
        cli.steps.map((one) => [one.address, one.entry]),
      );
      const { result } = walk;
      expect(result.ok ? hex(result.pa) : hex(result.errorCode)).toBe(cli.result.gpa ?? cli.result.errorCode);
      expect(result.ok).toBe(cli.result.mapped);
      expect(checks.map(({ text, passed }) => ({ text, passed }))).toEqual(
        cli.explanation.checks.map(({ text, passed }) => ({ text, passed })),
      );
      expect(code.map((one) => ({ ...one }))).toEqual(cli.explanation.errorCode);
    }
  });

  it("finds who maps a page, as find does", async () => {
    for (const one of [list[0]!, list[Math.floor(list.length / 2)]!]) {
      const pa = BigInt(one.pa) + 0x10n;
      // The page that Linux's espfix maps 65,536 times is among them: a page tells the first 10,000.
      const { hits, more } = await worker.find(task(), space.id, pa, false);
      const expected = await jsonOf("find", path, hex(pa), "--json", "-q");
      expect(hits.map(({ va, pageSize }) => ({ va: hex(va), pageSize: Number(pageSize) }))).toEqual(
        expected.slice(0, 10_000).map(({ va, pageSize }) => ({ va, pageSize })),
      );
      expect(more).toBe(expected.length > 10_000);
      const all = await worker.find(task(), space.id, pa, true);
      const everywhere = await jsonOf("find", path, hex(pa), "--json", "-q", "--all");
      expect(all.hits.map(({ va, root, shared }) => ({ va: hex(va), root: hex(root!), shared }))).toEqual(
        everywhere.slice(0, 10_000).map(({ va, root, shared }) => ({ va, root, shared })),
      );
    }
  });

  it("finds the spaces that the command finds", async () => {
    const { spaces } = await worker.spaces(task(), dump);
    const expected = await jsonOf("spaces", path, "--json");
    expect(
      spaces.map(({ root, mode, kind, mapped, cpus, isKernels, shared }) => ({
        ...{ root: hex(root), mode, kind, cpus, isKernels, shared },
        ...{ userBytes: mapped.user, kernelBytes: mapped.kernel, writableExecutable: mapped.writableExecutable },
      })),
    ).toEqual(
      expected.map(({ root, mode, kind, cpus, isKernels, shared, userBytes, kernelBytes, writableExecutable }) => ({
        ...{ root, mode, kind, cpus, isKernels, shared, userBytes, kernelBytes, writableExecutable },
      })),
    );
  });

  it("leads from the root table down to every page of the list", async () => {
    const total = list.reduce((sum, { size }) => sum + Number(size), 0);
    const root = await worker.table(task(), space.id, []);
    expect(root.mapped.reduce((sum, bytes) => sum + bytes, 0)).toBe(total);
    const last = list.at(-1)!;
    let table = root;
    const inside = (at: bigint) => BigInt(last.va) >= at && BigInt(last.va) < at + table.span;
    for (;;) {
      const index = [...table.entries!.keys()].find((one) => inside(vaOf(table.va, table.span, one, space.mode)))!;
      expect(table.mapped[index]).toBeGreaterThan(0);
      if (Number(table.span) <= Number(last.pageSize)) break;
      table = await worker.table(task(), space.id, [...table.path, index]);
    }
    expect(Number(table.span)).toBe(Number(last.pageSize));
  });
});

/** The address of an entry: behind the middle of a root table addresses are sign-extended. */
function vaOf(va: bigint, span: bigint, index: number, mode: SpaceAnswer["mode"]): bigint {
  const flat = va + span * BigInt(index);
  if (mode !== "4level" && mode !== "5level") return flat;
  return BigInt.asUintN(64, BigInt.asIntN(mode === "4level" ? 48 : 57, flat));
}

const toTable = (frame: number) => (BigInt(frame) << 12n) | 7n;
const all = (entry: bigint) => table64(Object.fromEntries(Array.from({ length: 512 }, (_, i) => [i, entry])));

function dumpWith(tables: readonly Uint8Array[]): Uint8Array {
  return elfCore({
    notes: qemuNote({ cr3: 0x1000n, cr4: 0x20n }),
    segments: tables.map((bytes, index) => ({ gpa: BigInt(index + 1) << 12n, bytes })),
  });
}

async function opened(bytes: Uint8Array, mostRanges?: number) {
  const worker = new DumpWorker(mostRanges === undefined ? {} : { mostRanges });
  const { id } = await worker.open(task(), [fileWith(bytes, "crafted.elf")], {});
  return { worker, space: await worker.choose(task(), id, {}) };
}

/** 2^36 mappings: each table has one other, 512 times. */
const ENDLESS = dumpWith([all(toTable(2)), all(toTable(3)), all(toTable(4)), all(0x9007n)]);

describe("crafted dumps", () => {
  it("are listed as far as is kept, which is said; what is behind is reached by its address", async () => {
    const { worker, space } = await opened(ENDLESS, 5000);
    expect(await worker.list(task(), space.id)).toMatchObject({ count: 5000, ended: "full", from: 0n });
    const far = await worker.list(task(), space.id, 0xffff_ffff_ffff_0000n);
    expect(far).toMatchObject({ count: 16, ended: "whole" });
    expect(worker.rows(space.id, 0, 1)[0]).toMatchObject({ va: 0xffff_ffff_ffff_0000n, pa: 0x9000n });
  });

  it("are left when that is asked, with what there is; the worker answers meanwhile", async () => {
    const { worker, space } = await opened(ENDLESS);
    const one = task();
    const list = worker.list(one, space.id);
    const begun = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(
      (await worker.walk(space.id, { address: 0x123n, access: "any", user: false, ac: false, strict: false }))
        .explanation.walk.result,
    ).toMatchObject({ ok: true, pa: 0x9123n });
    worker.cancel(one.id);
    const { ended, count } = await list;
    expect(ended).toBe("stopped");
    expect(count).toBeGreaterThan(0);
    expect(performance.now() - begun).toBeLessThan(2000);
    const search = task();
    const found = worker.find(search, space.id, 0x8000n, false);
    setTimeout(() => worker.cancel(search.id), 30);
    await expect(found).rejects.toMatchObject({ name: "AbortError" });
  });

  it("may contain themselves", async () => {
    const { worker, space } = await opened(dumpWith([all(toTable(1))]), 1000);
    expect(await worker.list(task(), space.id)).toMatchObject({ cyclic: true, ended: "full" });
    const { entries, mapped } = await worker.table(task(), space.id, [1, 2, 3]);
    expect(entries?.length).toBe(512);
    expect(mapped.every((bytes) => bytes === 0)).toBe(true);
  });
});

describe("several spaces, of which one has page-table isolation", () => {
  const path = temporary.file("isolated.elf", dumpOf(SYSTEM));

  it("are found and searched as the command line does; a root says what it hides", async () => {
    const worker = new DumpWorker();
    const { id } = await worker.open(task(), [await fileOf(path)], {});
    const space = await worker.choose(task(), id, { cr3: 0x22_0000n });
    expect(space.usersRoot).toBe(0x22_1000n);
    const { spaces } = await worker.spaces(task(), id);
    const printed = await jsonOf("spaces", path, "--json", "--cr3", "220000");
    expect(spaces.map(({ root }) => hex(root))).toEqual(printed.map(({ root }) => root));
    for (const pa of [0x25_0000n, 0x21_0000n]) {
      const { hits } = await worker.find(task(), space.id, pa, true);
      const expected = await jsonOf("find", path, hex(pa), "--all", "--json", "-q", "--cr3", "220000");
      expect(hits.length).toBeGreaterThan(0);
      expect(hits.map(({ va, root, shared }) => ({ va: hex(va), root: hex(root!), shared }))).toEqual(
        expected.map(({ va, root, shared }) => ({ va, root, shared })),
      );
    }
    expect((await worker.choose(task(), id, { cr3: 0x22_1000n })).usersRoot).toBeUndefined();
  });
});

describe("opening", () => {
  it("keeps what is open where another file is no dump, and drops it where it is one", async () => {
    const { worker, space } = await opened(ENDLESS);
    const text = fileWith(new TextEncoder().encode("{}"), "<b>package.json</b>");
    await expect(worker.open(task(), [text], {})).rejects.toThrow(/^<b>package.json<\/b>: .*expected an ELF core/);
    expect((await worker.page(space.id, 0x5000n)).pa).toBe(0x9000n);
    await worker.open(task(), [await fileOf(fixture("i386-pae"))], {});
    await expect(worker.table(task(), space.id, [])).rejects.toMatchObject({ name: "AbortError" });
    expect(() => worker.rows(space.id, 0, 1)).toThrow(expect.objectContaining({ name: "AbortError" }));
  });

  it("takes the dump that was asked for last", async () => {
    const worker = new DumpWorker();
    const late = worker.open(task(), [await fileOf(fixture("amd64-la57"))], {});
    const last = worker.open(task(), [fileWith(ENDLESS, "last.elf")], {});
    await expect(late).rejects.toMatchObject({ name: "AbortError" });
    expect((await last).name).toBe("last.elf");
  });

  it("reads raw memory in ranges, and by hand", async () => {
    const bytes = new Uint8Array(0x6000);
    bytes.set(table64({ 0: toTable(0x12) }), 0x1000);
    bytes.set(table64({ 0: toTable(0x13) }), 0x2000);
    bytes.set(table64({ 0: 0x20_0087n }), 0x3000);
    const worker = new DumpWorker();
    const rawRanges = [{ gpa: 0x11_000n, size: 0x3000n, offset: 0x1000n }];
    const { id, facts } = await worker.open(task(), [fileWith(bytes, "memory.raw")], { rawRanges });
    expect(facts[0]!.value).toContain("raw memory in 1 range");
    await expect(worker.choose(task(), id, {})).rejects.toThrow(/CR3 must be given/);
    const space = await worker.choose(task(), id, { cr3: 0x11_000n, mode: "4level" });
    expect((await worker.list(task(), space.id)).count).toBe(1);
    expect((await worker.page(space.id, 0x1000n)).why).toBe("this page is not in the dump");
  });

  it.each(["kdump/zstd.kdump", "kdump/lzo.flattened", "packed/i386-nopae.elf.xz", "packed/i386-nopae.elf.zst"])(
    "opens %s",
    async (name) => {
      const worker = new DumpWorker();
      const { id } = await worker.open(task(), [await fileOf(join(FIXTURES, name))], {});
      const space = await worker.choose(task(), id, {});
      expect(space.title).toBe("32-bit paging");
      const { explanation } = await worker.walk(space.id, {
        address: 0xc100_0123n,
        access: "any",
        user: false,
        ac: false,
        strict: false,
      });
      expect(explanation.walk.result).toMatchObject({ ok: true, pa: 0x100_0123n });
    },
  );
});

describe("a second stage", () => {
  it("is walked for each of the guest's entries, and for the page", async () => {
    const ept = (frame: number) => (BigInt(frame) << 12n) | 7n;
    const tables = [
      table64({ 0: toTable(2) }),
      table64({ 0: toTable(3) }),
      table64({ 0: toTable(4) }),
      table64({ 5: 0x5007n }),
      new Uint8Array(4096),
      table64({ 0: ept(7) }),
      table64({ 0: ept(8) }),
      // Guest-physical addresses are the host's.
      table64({ 0: 0xb7n }),
    ];
    const { worker, space } = await opened(dumpWith(tables));
    const { explanation, secondMode } = await worker.walk(space.id, {
      ...{ address: 0x5010n, access: "read", user: true, ac: false, strict: false },
      second: { kind: "ept", root: 0x6000n, cr3: 0x1000n },
    });
    expect(secondMode).toBe("ept4");
    expect(explanation.walk.result).toMatchObject({ ok: true, pa: 0x5010n });
    expect(explanation.walk.steps.filter(({ stage }) => stage === "second")).toHaveLength(15);
  });
});
