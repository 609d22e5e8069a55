/** What a Linux kernel has where: of real guests' tables, and of made ones. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { type KernelMemory, type KernelRegionOptions, kernelRegions, openDumpAsync } from "../../src/dump/browser.js";

const GIB = 2n ** 30n;
const M2 = 2n ** 21n;
const SECTION = 2n ** 27n;

/** Tables from 0x1000 on that map what is asked for, and pages of data. */
class Tables {
  readonly pages = new Map<bigint, DataView>([[1n, new DataView(new ArrayBuffer(4096))]]);
  #next = 2n;
  readonly #levels: number;

  constructor(levels: 4 | 5) {
    this.#levels = levels;
  }

  /** Maps the page of that level (1 to 3). */
  map(va: bigint, pa: bigint, level: number): this {
    let table = 1n;
    for (let at = this.#levels; ; at--) {
      const index = Number((va >> BigInt(12 + 9 * (at - 1))) % 512n) * 8;
      const view = this.pages.get(table)!;
      if (at === level) {
        view.setBigUint64(index, pa | (at > 1 ? 0xe3n : 0x63n), true);
        return this;
      }
      if (view.getBigUint64(index, true) === 0n) {
        this.pages.set(this.#next, new DataView(new ArrayBuffer(4096)));
        view.setBigUint64(index, (this.#next << 12n) | 0x63n, true);
        this.#next++;
      }
      table = view.getBigUint64(index, true) >> 12n;
    }
  }

  data(gpa: bigint, words: Record<number, bigint>): this {
    const view = new DataView(new ArrayBuffer(4096));
    for (const [index, word] of Object.entries(words)) view.setBigUint64(Number(index) * 8, word, true);
    this.pages.set(gpa >> 12n, view);
    return this;
  }

  get memory(): KernelMemory {
    const source = {
      readPage: (gfn: bigint, into: Uint8Array) => {
        const page = this.pages.get(gfn);
        if (page !== undefined) into.set(new Uint8Array(page.buffer));
        return page !== undefined;
      },
    };
    return {
      pageSource: source,
      tableSource: source,
      presence: (gpa) => (this.pages.has(gpa >> 12n) ? "held" : "absent"),
    };
  }
}

const DIRECT = 0xffff_9000_4000_0000n;
const VMALLOC = 0xffff_b000_8000_0000n;
const VMEMMAP = 0xffff_e000_c000_0000n;
const IMAGE = 0xffff_ffff_8000_0000n;
const FIXED = "Linux's fixed address";

/** 256 MiB from 0 on, and 128 at 4 GiB; an image; something of vmalloc; vmemmap for three sections. */
function system(tables = new Tables(4)): Tables {
  for (let at = 0n; at < 2n * SECTION; at += M2) tables.map(DIRECT + at, at, 2);
  tables.map(DIRECT + 4n * GIB + M2, 4n * GIB + M2, 2);
  tables.map(VMALLOC, 0x12_3000n, 1);
  for (const section of [0n, 1n, 32n]) tables.map(VMEMMAP + section * M2, 0x300_0000n, 2);
  return tables.map(IMAGE + 0x2400_0000n, 0x100_0000n, 2).map(IMAGE + 0x2420_0000n, 0x120_0000n, 2);
}

const regions = ({ memory }: Tables, options: KernelRegionOptions = {}) =>
  kernelRegions(memory, 0x1000n, "4level", options).map(({ name, start, end, basis }) => [name, start, end, basis]);
const names = (tables: Tables, options: KernelRegionOptions = {}) => regions(tables, options).map(([name]) => name);

describe("a made system", () => {
  it("has a direct map, vmalloc, vmemmap and an image, by its tables", () => {
    expect(regions(system())).toEqual([
      [
        "direct map",
        DIRECT,
        DIRECT + 5n * GIB,
        "its tables: 2 GiB hold memory at this distance from physical address 0",
      ],
      ["vmalloc", VMALLOC, VMEMMAP, "between the direct map and vmemmap, where Linux has it"],
      ["vmemmap", VMEMMAP, VMEMMAP + 40n * M2, "its tables: 2 MiB for each of 3 sections of memory"],
      ["kernel image", IMAGE + 0x2400_0000n, IMAGE + 0x2440_0000n, "its tables"],
    ]);
  });

  it.each<[string, Tables]>([
    ["vmemmap lacks a section", system().map(DIRECT + 5n * SECTION, 5n * SECTION, 2)],
    ["vmemmap has one for no memory", system().map(VMEMMAP + 6n * M2, 0n, 2)],
    ["there is no image", new Tables(4).map(DIRECT, 0n, 2).map(VMEMMAP, 0n, 2)],
    ["there is no direct map", new Tables(4).map(DIRECT, M2, 2).map(VMEMMAP, 0n, 2).map(IMAGE, 0n, 2)],
    [
      "the direct map does not begin with physical address 0",
      new Tables(4).map(DIRECT + GIB, GIB, 2).map(IMAGE, 0n, 2),
    ],
    ["nothing is mapped", new Tables(4)],
  ])("is not taken for Linux where %s", (_, tables) => {
    expect(names(tables)).toEqual([]);
  });

  it("is taken for Linux where VMCOREINFO says so, and vmemmap is named only where it is known", () => {
    const tables = system().map(VMEMMAP + 6n * M2, 0n, 2);
    expect(names(tables, { vmcoreinfo: "OSRELEASE=6.1" })).toEqual(["direct map", "kernel image"]);
    expect(names(new Tables(4).map(IMAGE, 0n, 2), { vmcoreinfo: "OSRELEASE=6.1" })).toEqual([]);
  });

  it("says by how much the image was moved, and how large images may be, where VMCOREINFO does", () => {
    const tables = system().map(IMAGE + 0x2800_0000n, 0n, 1);
    const vmcoreinfo = "KERNELOFFSET=23000000\nNUMBER(KERNEL_IMAGE_SIZE)=671088640";
    expect(regions(tables, { vmcoreinfo }).slice(-2)).toEqual([
      [
        "kernel image",
        IMAGE + 0x2400_0000n,
        IMAGE + 0x2440_0000n,
        "its tables; moved by 0x23000000 (VMCOREINFO, KERNELOFFSET)",
      ],
      ["modules", IMAGE + 0x2800_0000n, 0xffff_ffff_ff00_0000n, "VMCOREINFO, KERNEL_IMAGE_SIZE"],
    ]);
  });

  it("has modules behind an image of 512 MiB, or of 1 GiB where it was moved", () => {
    const still = system(new Tables(4).map(IMAGE + 0x100_0000n, 0n, 2));
    still.map(IMAGE + 0x2600_0000n, 0n, 1);
    expect(regions(still).at(-1)).toEqual(["modules", IMAGE + GIB / 2n, 0xffff_ffff_ff00_0000n, "its tables"]);
    const moved = system().map(IMAGE + GIB + M2, 0n, 1);
    expect(regions(moved).at(-1)).toEqual(["modules", IMAGE + GIB, 0xffff_ffff_ff00_0000n, "its tables"]);
    expect(regions(moved).at(-2)).toEqual(["kernel image", IMAGE + 0x2400_0000n, IMAGE + 0x2440_0000n, "its tables"]);
  });

  it("has what Linux has at fixed addresses, where something is mapped there", () => {
    const tables = system();
    for (const va of [
      0xffff_8800_0001_0000n,
      0xffff_fe00_0000_0000n,
      0xffff_ff00_1234_0000n,
      0xffff_fffe_f000_0000n,
      0xffff_ffff_ff20_0000n,
      0xffff_ffff_ff60_0000n,
    ])
      tables.map(va, 0n, 1);
    expect(regions(tables).filter(([, , , basis]) => basis === FIXED)).toEqual([
      ["LDT", 0xffff_8800_0000_0000n, 0xffff_8880_0000_0000n, FIXED],
      ["cpu entry area", 0xffff_fe00_0000_0000n, 0xffff_fe80_0000_0000n, FIXED],
      ["espfix", 0xffff_ff00_0000_0000n, 0xffff_ff80_0000_0000n, FIXED],
      ["EFI", 0xffff_ffef_0000_0000n, 0xffff_ffff_0000_0000n, FIXED],
      ["fixmap", 0xffff_ffff_ff00_0000n, 0xffff_ffff_ff60_0000n, FIXED],
      ["vsyscall", 0xffff_ffff_ff60_0000n, 0xffff_ffff_ff60_1000n, FIXED],
    ]);
  });

  describe("whose vmemmap VMCOREINFO leads to", () => {
    const text = (extra = "") =>
      `SYMBOL(mem_section)=${(DIRECT + 0x80_0000n).toString(16)}\nSIZE(mem_section)=32\nOFFSET(mem_section.section_mem_map)=0\n${extra}`;
    const withSections = (word: bigint) =>
      system()
        .map(VMEMMAP + 6n * M2, 0n, 2)
        .data(0x80_0000n, { 1: DIRECT + 0x90_0000n + 64n })
        .data(0x90_0000n, { 8: 0n, 12: word });

    it("is where the first section's entry says, without its flags", () => {
      expect(regions(withSections(VMEMMAP | 0x1fn), { vmcoreinfo: text() }).slice(1, 3)).toEqual([
        ["vmalloc", VMALLOC, VMEMMAP, "between the direct map and vmemmap, where Linux has it"],
        ["vmemmap", VMEMMAP, VMEMMAP + 40n * M2, "VMCOREINFO, mem_section"],
      ]);
    });

    it.each<[string, Tables, string]>([
      ["it is no address that vmemmap can have", withSections(VMEMMAP + M2), text()],
      ["it is below the direct map's end", withSections(DIRECT), text()],
      ["there is no entry", withSections(0n), text()],
      ["the array is not mapped", withSections(VMEMMAP), text().replace("ffff9", "ffff8")],
      ["the array is not in the dump", system().map(VMEMMAP + 6n * M2, 0n, 2), text()],
      ["the text does not have the sizes", withSections(VMEMMAP), text().replace("SIZE", "SIXE")],
    ])("is not named where %s", (_, tables, vmcoreinfo) => {
      expect(names(tables, { vmcoreinfo })).toEqual(["direct map", "kernel image"]);
    });
  });

  it("is given up where its tables have more than any kernel maps", () => {
    const tables = system();
    const root = tables.pages.get(1n)!;
    const wide = new DataView(new ArrayBuffer(4096));
    for (let index = 0; index < 512; index++) wide.setBigUint64(index * 8, 0xe3n, true);
    tables.pages.set(0x1000n, wide);
    for (let index = 256; index < 512; index++)
      if (root.getBigUint64(index * 8, true) === 0n) root.setBigUint64(index * 8, 0x1000063n, true);
    expect(names(tables)).not.toEqual([]);
    // 5 levels have room for more.
    const all = new DataView(new ArrayBuffer(4096));
    for (let index = 0; index < 512; index++) all.setBigUint64(index * 8, 0x1000063n, true);
    tables.pages.set(1n, new DataView(new ArrayBuffer(4096)));
    tables.pages.set(0x1001n, all);
    for (let index = 256; index < 512; index++) tables.pages.get(1n)!.setBigUint64(index * 8, 0x1001063n, true);
    expect(kernelRegions(tables.memory, 0x1000n, "5level", { vmcoreinfo: "" })).toEqual([]);
  });
});

it("is given up in time where tables are crafted to be looked at for ever", () => {
  const tables = system();
  const page = (entries: (index: number) => bigint) => {
    const view = new DataView(new ArrayBuffer(4096));
    for (let index = 0; index < 512; index++) view.setBigUint64(index * 8, entries(index), true);
    return view;
  };
  // Each GiB leads to 512 tables with nothing in them, by turns.
  tables.pages.set(
    0x2000n,
    page((index) => (BigInt(0x2001 + (index % 2)) << 12n) | 0x63n),
  );
  for (const table of [0x2001n, 0x2002n])
    tables.pages.set(
      table,
      page((index) => (BigInt(0x2003 + (index % 2)) << 12n) | 0x63n),
    );
  tables.pages.set(
    0x2003n,
    page(() => 0n),
  );
  tables.pages.set(
    0x2004n,
    page(() => 0n),
  );
  const root = tables.pages.get(1n)!;
  for (let index = 256; index < 512; index++)
    if (root.getBigUint64(index * 8, true) === 0n) root.setBigUint64(index * 8, 0x2000063n, true);
  let reads = 0;
  const { memory } = tables;
  const tableSource = {
    readPage(gfn: bigint, into: Uint8Array) {
      reads++;
      return memory.tableSource.readPage(gfn, into);
    },
  };
  expect(kernelRegions({ ...memory, tableSource }, 0x1000n, "4level", { vmcoreinfo: "" })).toEqual([]);
  expect(reads).toBeLessThan(300_000);
});

describe("real guests", () => {
  const of = async (name: string, root: bigint, mode: "4level" | "5level", known = true) => {
    const path = new URL(`../fixtures/dumps/${name}/pt.elf.gz`, import.meta.url);
    const { dump } = await openDumpAsync(readFileSync(path));
    return kernelRegions(dump, root, mode, known ? { vmcoreinfo: dump.vmcoreinfo } : {});
  };

  it("of 4 levels, whose dump says nothing", async () => {
    expect((await of("amd64-4l", 0x101c28000n, "4level")).map(({ name, start }) => [name, start.toString(16)])).toEqual(
      [
        ["direct map", "ffff8ac180000000"],
        ["vmalloc", "ffffcbdac0000000"],
        ["vmemmap", "ffffef6a80000000"],
        ["cpu entry area", "fffffe0000000000"],
        ["espfix", "ffffff0000000000"],
        ["kernel image", "ffffffffaaa00000"],
        ["modules", "ffffffffc0000000"],
        ["fixmap", "ffffffffff000000"],
      ],
    );
  });

  it("of 5 levels: VMCOREINFO and the tables say the same", async () => {
    const places = (regions: Awaited<ReturnType<typeof of>>) =>
      regions.map(({ name, start, end }) => [name, start, end]);
    const said = await of("amd64-la57", 0x2634000n, "5level");
    expect(said.find(({ name }) => name === "kernel image")).toMatchObject({
      start: 0xffff_ffff_9a40_0000n,
      basis: "its tables; moved by 0x19400000 (VMCOREINFO, KERNELOFFSET)",
    });
    expect(places(await of("amd64-la57", 0x2634000n, "5level", false))).toEqual(places(said));
    expect(said).toHaveLength(8);
  });
});
