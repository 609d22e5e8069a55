/** Dumps of real Linux guests. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { openDumpFile, registersFromDump } from "../../src/dump/node.js";
import { page } from "./builders.js";

const fixture = (name: string) => new URL(`../fixtures/dumps/${name}/pt.elf.gz`, import.meta.url).pathname;

/** What QEMU's `info registers` said of these guests, NXE included. */
const REGISTERS = [
  ["amd64-la57", "x86_64", 0x751ef0n, 0xd00n],
  ["amd64-1g", "x86_64", 0x750ef0n, 0xd00n],
  ["amd64-4l", "x86_64", 0x6f0n, 0xd00n],
  ["i386-pae", "i386", 0x6f0n, 0x800n],
  ["i386-nopae", "i386", 0x690n, 0n],
] as const;

describe("dumps of real Linux guests", () => {
  it.each(REGISTERS)("%s: registers", async (name, machine, cr4, efer) => {
    const dump = await openDumpFile(fixture(name));
    expect(dump.machine).toBe(machine);
    expect(dump.cpus.length).toBe(1);
    expect(dump.prstatusCount).toBe(1);
    const registers = registersFromDump(dump);
    expect(registers.cr0).toBe(0x8005_0033n);
    expect(registers.cr4).toBe(cr4);
    // SCE (bit 0) has nothing to do with paging.
    expect(registers.efer).toBe(efer);
    dump.close();
  });

  it("VMCOREINFO names the same number of levels as CR4", async () => {
    const dump = await openDumpFile(fixture("amd64-la57"));
    expect(dump.vmcoreinfo).toMatch(/^NUMBER\(pgtable_l5_enabled\)=1$/m);
  });

  it("every page is the page of the file", async () => {
    const dump = await openDumpFile(fixture("i386-pae"));
    const file = gunzipSync(readFileSync(fixture("i386-pae")));
    const into = page(0);
    const headers = file.readUInt16LE(56);
    let pages = 0;
    for (let i = 1; i < headers; i++) {
      const at = 64 + 56 * i;
      const [offset, gpa, size] = [8, 24, 32].map((field) => Number(file.readBigUInt64LE(at + field)));
      for (let done = 0; done < size!; done += 4096, pages++) {
        expect(dump.pageSource.readPage(BigInt((gpa! + done) / 4096), into)).toBe(true);
        expect(Buffer.compare(into, file.subarray(offset! + done, offset! + done + 4096))).toBe(0);
      }
    }
    expect(pages).toBe(30);
  });
});
