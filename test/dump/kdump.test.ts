/** kdump-compressed dumps: headers of every version, pages, what is left out, parts, and files that are not whole. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { DumpError, loadCodecs, MemoryByteSource, openDump, openDumpFile } from "../../src/dump/node.js";
import { temporaryFolder } from "../temporary.js";
import { concat, page, prstatusNote, qemuNote } from "./builders.js";
import { type Compression, FLAGS, INCOMPLETE, type KdumpOptions, kdump } from "./writers/kdump.js";

const { file } = temporaryFolder();
const codecs = await loadCodecs(["zlib", "lzo", "snappy", "zstd"]);
const source = (bytes: Uint8Array, name = "vmcore") => new MemoryByteSource(bytes, name);
const open = (bytes: Uint8Array, ...parts: Uint8Array[]) =>
  openDump(source(bytes), { codecs, parts: parts.map((part, index) => source(part, `part${index}`)) });

type Dump = ReturnType<typeof open>;
const PAGES: KdumpOptions["pages"] = new Map([
  [1, page(1)],
  [2, page(2)],
  [0x18, page(3)],
  [0x10_0005, Uint8Array.from({ length: 4096 }, (_, i) => Math.imul(i, 0x9e3779b1) >>> 24)],
]);

function readPage(dump: Dump, frame: number): Uint8Array | undefined {
  const into = page(0xee);
  return dump.pageSource.readPage(BigInt(frame), into) ? into : undefined;
}

function expectPages(dump: Dump, pages = PAGES): void {
  for (const [frame, bytes] of pages) {
    const read = readPage(dump, frame);
    expect(read && Buffer.compare(read, bytes), `frame ${frame}`).toBe(0);
  }
}

const presences = (dump: Dump, ...frames: number[]) =>
  frames.map((frame) => dump.presence(BigInt(frame) << 12n, 4096n));

function failure(bytes: Uint8Array, ...parts: Uint8Array[]): DumpError {
  try {
    open(bytes, ...parts);
  } catch (error) {
    expect(error).toBeInstanceOf(DumpError);
    expect((error as Error).message).not.toContain("\n");
    return error as DumpError;
  }
  throw new Error("expected a refusal");
}

describe("headers", () => {
  const versions = [1, 2, 3, 4, 5, 6].flatMap((version) => [32, 64].map((bits) => [version, bits as 32 | 64] as const));
  it.each(versions)("of version %i, %i-bit", (version, bits) => {
    const text = "OSRELEASE=6.1\n";
    const dump = open(
      kdump({ pages: PAGES, version, bits, level: 31, vmcoreinfo: text, notes: qemuNote({ cr3: 0x1000n }) }),
    );
    expectPages(dump);
    expect(readPage(dump, 3)).toBeUndefined();
    expect(dump.ranges.map(({ gpa, size }) => [gpa, size])).toEqual([
      [0x1000n, 0x2000n],
      [0x18000n, 0x1000n],
      [0x1_0000_5000n, 0x1000n],
    ]);
    expect(dump.format).toBe("kdump");
    expect(dump.machine).toBe(bits === 64 ? "x86_64" : "i386");
    expect(dump.vmcoreinfo).toBe(version >= 3 ? text : undefined);
    expect(dump.cpus.map(({ cr3 }) => cr3)).toEqual(version >= 4 ? [0x1000n] : []);
    expect(dump.facts[0]!.value).toBe(`kdump-compressed, version ${version}, ${bits}-bit, pages of zlib`);
  });

  it("are refused where they say what no dump says", () => {
    const whole = kdump({ pages: PAGES });
    const patched = (at: number, value: number) => {
      const bytes = whole.slice();
      new DataView(bytes.buffer).setUint32(at, value, true);
      return failure(bytes);
    };
    expect(patched(8, 7)).toMatchObject({ offset: 8, message: expect.stringMatching(/version 1 to 6, found 7/) });
    expect(patched(8, 0).offset).toBe(8);
    expect(patched(428, 65536)).toMatchObject({
      offset: 428,
      message: expect.stringMatching(/blocks of 4096 bytes .*65536/),
    });
    expect(patched(432, 0)).toMatchObject({
      offset: 432,
      message: expect.stringMatching(/sub-header of 1 to 65536 blocks/),
    });
    expect(patched(432, 65537).offset).toBe(432);
    expect(patched(436, 1)).toMatchObject({
      offset: 436,
      message: expect.stringMatching(/expected 33 bitmap blocks or more/),
    });
    expect(patched(4096 + 8, 32)).toMatchObject({
      offset: 4104,
      message: expect.stringMatching(/level of 0 to 31, found 32/),
    });
    expect(patched(4096 + 100, 5).message).toMatch(/expected 1 to 8589934592 pages/);
    expect(patched(432, 60000).message).toMatch(/the bitmap of .* but the file ends/);
  });

  it("have a VMCOREINFO of at most 1 MiB and notes that fit", () => {
    const vmcoreinfo = `OSRELEASE=${"6".repeat(2 ** 20)}\n`;
    expect(failure(kdump({ pages: PAGES, vmcoreinfo })).message).toMatch(/VMCOREINFO of at most 1048576 bytes/);
    expect(failure(kdump({ pages: PAGES, notes: qemuNote({}).subarray(0, 400) })).message).toMatch(/broken note/);
  });

  it("do not say whether the machine was in long mode, but the registers beside QEMU's notes do", () => {
    const withNotes = (notes: Uint8Array) => open(kdump({ pages: PAGES, notes })).longMode?.active;
    expect(withNotes(concat(prstatusNote(62), qemuNote({})))).toBe(true);
    expect(withNotes(concat(prstatusNote(3), qemuNote({})))).toBe(false);
    expect(withNotes(prstatusNote(62))).toBeUndefined();
  });
});

describe("pages", () => {
  it.each<Compression>(["none", "zlib", "lzo", "snappy", "zstd"])(
    "compressed with %s, and as they are",
    (compression) => {
      const dump = open(kdump({ pages: PAGES, compression }));
      expectPages(dump);
      expect(dump.facts[0]!.value).toContain(compression === "none" ? "pages as they are" : `pages of ${compression}`);
    },
  );

  it("need decompressors that openDumpFile loads", async () => {
    const bytes = kdump({ pages: PAGES, compression: "snappy" });
    expect(() => openDump(source(bytes))).toThrow(/decompressors for snappy: load them first/);
    const dump = await openDumpFile(file("snappy", bytes));
    expectPages(dump);
    dump.close();
  });

  it.each(["zlib", "lzo", "snappy", "zstd"] as const)(
    "of broken %s data are refused when they are read",
    (compression) => {
      const good = kdump({ pages: new Map([[1, page(7)]]), compression });
      const data = good.length - new DataView(good.buffer).getUint32(4096 * 4 + 8, true);
      for (let at = data; at < good.length; at++) {
        const bytes = good.slice();
        bytes[at]! ^= 0xff;
        const dump = open(bytes);
        try {
          readPage(dump, 1);
        } catch (error) {
          expect(error).toBeInstanceOf(DumpError);
          expect((error as Error).message).toMatch(
            /^vmcore: offset 0x\w+: page 0x1000: expected 4096 bytes of \w+, found /,
          );
          continue;
        }
        // The byte itself, where there is no checksum.
        expect(["lzo", "snappy", "zstd"], `byte ${at - data}`).toContain(compression);
      }
    },
  );

  it("have descriptors that are checked", () => {
    const good = kdump({ pages: new Map([[1, page(7)]]) });
    const descriptor = 4096 * 4;
    const patched = (at: number, value: number) => {
      const bytes = good.slice();
      new DataView(bytes.buffer).setUint32(descriptor + at, value, true);
      return () => readPage(open(bytes), 1);
    };
    expect(patched(12, 0)).toThrow(/page 0x1000: expected 4096 bytes, found \d+/);
    expect(patched(12, 3)).toThrow(/expected one way of compression, found flags 0x3/);
    const unannounced = good.slice();
    new DataView(unannounced.buffer).setUint32(descriptor + 12, FLAGS.lzo, true);
    const dump = openDump(source(unannounced), { codecs: { zlib: codecs.zlib! } });
    expect(() => readPage(dump, 1)).toThrow(/expected a compression that the header announces, found lzo/);
    expect(patched(8, 0)).toThrow(/expected 1 to 8192 bytes of zlib, found 0/);
    expect(patched(0, 0)()).toBeUndefined();
    expect(patched(4, 2 ** 31)()).toBeUndefined();
  });
});

describe("pages that were left out", () => {
  const excluded = [3, 4, 0x20];

  it("are zero with level 1, which leaves out nothing else", () => {
    const dump = open(kdump({ pages: PAGES, excluded, level: 1 }));
    expectPages(dump, new Map([...PAGES, ...excluded.map((frame) => [frame, page(0)] as const)]));
    expect(presences(dump, 1, 3, 0x20, 5)).toEqual(["held", "held", "held", "absent"]);
    expect(dump.ranges[0]).toEqual({ gpa: 0x1000n, size: 0x4000n });
    expect(dump.memory.lacking.excluded).toEqual({ bytes: 0, ranges: 0 });
  });

  it.each([0, 2, 16, 30, 31])(
    "are unknown with level %i, and tables are zero only where zero pages are left out",
    (level) => {
      const dump = open(kdump({ pages: PAGES, excluded, level }));
      expectPages(dump);
      for (const frame of excluded) expect(readPage(dump, frame)).toBeUndefined();
      expect(presences(dump, 1, 3, 0x20, 5)).toEqual(["held", "excluded", "excluded", "absent"]);
      expect(dump.touches(0x3000n, 0x1000n)).toBe(false);
      expect(dump.presence(0x2000n, 0x3000n)).toBe("held");
      expect(dump.memory.held).toEqual({ bytes: 4 * 4096, ranges: 3 });
      expect(dump.memory.lacking.excluded).toEqual({ bytes: 3 * 4096, ranges: 2 });
      expect(dump.memory.lackingRanges("excluded")).toEqual([
        { gpa: 0x3000n, size: 0x2000n },
        { gpa: 0x2_0000n, size: 0x1000n },
      ]);
      const table = page(0xee);
      expect(dump.tableSource.readPage(3n, table)).toBe(level % 2 === 1);
      if (level % 2 === 1) expect(table).toEqual(page(0));
      expect(dump.tableSource.readPage(5n, table)).toBe(false);
    },
  );

  it("are unknown with level 1, too, where unused page structures are left out", () => {
    const dump = open(kdump({ pages: PAGES, excluded, level: 1, status: 0x10 }));
    expect(readPage(dump, 3)).toBeUndefined();
  });

  it("are zero where the user says so", () => {
    const dump = openDump(source(kdump({ pages: PAGES, excluded, level: 31 })), { codecs, zeroExcluded: true });
    expect(readPage(dump, 3)).toEqual(page(0));
  });

  it("are not known of where there is no bitmap of them", () => {
    const dump = open(kdump({ pages: PAGES, excluded, level: 1, oneBitmap: true }));
    expectPages(dump);
    expect(presences(dump, 3)).toEqual(["absent"]);
  });
});

describe("a dump that is not whole", () => {
  const whole = kdump({ pages: PAGES, excluded: [9], level: 31 });

  it("has the pages that are there, and says how many are not", () => {
    const dump = open(whole.subarray(0, whole.length - 1));
    expectPages(dump, new Map([...PAGES].slice(0, 3)));
    expect(readPage(dump, 0x10_0005)).toBeUndefined();
    expect(presences(dump, 1, 9, 0x10_0005)).toEqual(["held", "excluded", "cut"]);
    expect(dump.warnings).toEqual(["the file breaks off: 1 of 4 pages are not there"]);
    expect(dump.memory.lacking.cut).toEqual({ bytes: 4096, ranges: 1 });
  });

  it("is noticed though its last pages are zero ones, which share their data with the first", () => {
    const many = new Map([[0, page(0)], ...Array.from({ length: 9000 }, (_, i) => [i + 2, page(0)] as const)]);
    many.set(1, PAGES.get(0x10_0005)!);
    const bytes = kdump({ pages: many });
    const view = new DataView(bytes.buffer);
    // All descriptors name the first one's data, but that of page 1, whose data is cut.
    const descriptors = 4096 * 4;
    for (let i = 2; i < many.size; i++) bytes.copyWithin(descriptors + i * 24, descriptors, descriptors + 24);
    const end = Number(view.getBigUint64(descriptors + 24, true)) + 100;
    const dump = open(bytes.subarray(0, end));
    expect(presences(dump, 0, 1, 2, 9001)).toEqual(["held", "cut", "held", "held"]);
    expect(readPage(dump, 9001)).toEqual(page(0));
  });

  it("whose writer stopped has descriptors of zeros", () => {
    const dump = open(kdump({ pages: PAGES, unwritten: 2, status: INCOMPLETE }));
    expect(presences(dump, 1, 2, 0x18, 0x10_0005)).toEqual(["held", "held", "cut", "cut"]);
    expect(dump.warnings).toEqual(["its writer stopped before the end: 2 of 4 pages are not there"]);
  });

  it("cut anywhere is refused, or says that it is", () => {
    for (let length = 0; length < whole.length; length += 97) {
      const bytes = whole.subarray(0, length);
      let dump: Dump;
      try {
        dump = open(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(DumpError);
        continue;
      }
      expect(dump.warnings.length, `${length} bytes`).toBe(1);
      for (const [frame, content] of PAGES) {
        const read = readPage(dump, frame);
        expect(presences(dump, frame)).toEqual([read ? "held" : "cut"]);
        if (read) expect(Buffer.compare(read, content)).toBe(0);
      }
    }
  });
});

describe("a split dump", () => {
  const part = (start: number, end: number, more: Partial<KdumpOptions> = {}) =>
    kdump({ pages: PAGES, split: [start, end], ...more });
  const frames = 0x10_0006;
  const parts = [part(0, 2), part(2, 0x20), part(0x20, frames)] as const;

  it.each([
    [0, 1, 2],
    [2, 0, 1],
    [1, 2, 0],
  ])("is read from its parts in any order: %i, %i, %i", (a, b, c) => {
    const dump = open(parts[a]!, parts[b]!, parts[c]!);
    expectPages(dump);
    expect(dump.warnings).toEqual([]);
    expect(dump.facts[0]!.value).toMatch(/, 3 parts$/);
  });

  it.each([2, 5])("of version %i", (version) => {
    expectPages(open(...([part(0, 2, { version }), part(2, frames, { version })] as const)));
  });

  it("lacks the pages of the parts that are not there", () => {
    const dump = open(parts[1]!, parts[2]!);
    expect(presences(dump, 1, 2, 0x18, 0x10_0005)).toEqual(["cut", "held", "held", "held"]);
    expect(readPage(dump, 1)).toBeUndefined();
    expectPages(dump, new Map([...PAGES].slice(1)));
    expect(dump.warnings).toEqual([
      expect.stringMatching(/^this is a part of a split dump, .* from 0x0 on are not here: .*--part$/),
    ]);
    expect(open(parts[0]!, parts[1]!).warnings[0]).toMatch(/from 0x20000 on are not here/);
  });

  it("has no parts of other dumps, none twice, and no whole dumps", () => {
    const other = part(2, 0x20, { level: 1, frames: 0x20_0000 });
    expect(failure(parts[0]!, other).message).toMatch(
      /^part0: expected a part of the same dump as vmcore, found another dump/,
    );
    for (const more of [{ release: "6.2" }, { level: 1 }, { compression: "lzo" as const }, { notes: qemuNote({}) }]) {
      expect(failure(parts[0]!, part(2, 0x20, more)).message).toMatch(/found another dump/);
    }
    expect(failure(parts[0]!, parts[1]!, parts[1]!).message).toMatch(/found frame 0x2 in two of them/);
    const whole = kdump({ pages: PAGES });
    expect(failure(whole, parts[1]!).message).toMatch(/beside other parts, found a whole one/);
    expect(failure(parts[0]!, whole).message).toMatch(/^part0: .*found a whole one/);
  });

  it("is opened by openDumpFile", async () => {
    const paths = parts.map((bytes, index) => file(`part.${index}`, bytes));
    const dump = await openDumpFile(paths[1]!, { parts: [paths[2]!, paths[0]!] });
    expectPages(dump);
    dump.close();
    await expect(openDumpFile(paths[0]!, { parts: [file("elf", "\x7fELF")] })).rejects.toThrow(DumpError);
  });
});

describe("what the real writers make of a guest's tables", () => {
  const fixture = (name: string) => new URL(`../fixtures/kdump/${name}`, import.meta.url).pathname;
  // zlib.kdump, lzo.kdump and lzo.flattened are makedumpfile's own; the other pages were compressed by libsnappy and libzstd.
  it.each(["zlib.kdump", "lzo.kdump", "snappy.kdump", "zstd.kdump", "lzo.flattened"])(
    "%s has the same pages",
    async (name) => {
      const plain = await openDumpFile(new URL("../fixtures/dumps/i386-nopae/pt.elf.gz", import.meta.url).pathname);
      const dump = await openDumpFile(fixture(name));
      expect(dump.ranges).toEqual(plain.ranges);
      const [a, b] = [page(0), page(1)];
      for (const { gpa, size } of plain.ranges) {
        for (let at = gpa; at < gpa + size; at += 4096n) {
          plain.pageSource.readPage(at >> 12n, a);
          expect(dump.pageSource.readPage(at >> 12n, b)).toBe(true);
          expect(Buffer.compare(a, b)).toBe(0);
        }
      }
      expect(dump.cpus).toEqual(plain.cpus);
      expect(dump.longMode?.active).toBe(false);
      dump.close();
      plain.close();
    },
  );

  it("are read page by page", () => {
    const bytes = new Uint8Array(readFileSync(fixture("lzo.kdump")));
    let read = 0;
    const counting = source(bytes);
    const dump = openDump(
      {
        name: "counting",
        size: bytes.length,
        read: (offset, into) => {
          read += into.length;
          return counting.read(offset, into);
        },
      },
      { codecs },
    );
    const before = read;
    expect(readPage(dump, 0x1ca5)).toBeDefined();
    expect(read - before).toBeLessThan(4096 + 24);
  });
});
