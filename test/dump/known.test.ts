/** Files that are known and not read. */
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { DumpError, MemoryByteSource, openDump, openDumpFile } from "../../src/dump/node.js";
import { temporaryFolder } from "../temporary.js";
import { page } from "./builders.js";

const { file } = temporaryFolder();
const latin1 = (text: string) => Uint8Array.from(text, (one) => one.charCodeAt(0));
const beginning = (magic: string) => {
  const bytes = page(0x33, 8192);
  bytes.set(latin1(magic));
  return bytes;
};

describe("a file that is known and not read", () => {
  it.each<[string, RegExp]>([
    ...["hibr", "HIBR", "wake", "WAKE", "rstr", "RSTR", "HORM"].map((magic): [string, RegExp] => [
      magic,
      /hibernation file .*complete memory dump/,
    ]),
    ["LibvirtQemudSave", /libvirt has saved .*virsh restore, then virsh dump --memory-only/],
    ["LibvirtQemudPart", /libvirt has not saved to the end .*virsh dump --memory-only/],
    ["QEVM\0\0\0\x03", /a QEMU migration stream .*dump-guest-memory/],
    ["QFI\xfb", /a qcow2 disk.*dump-guest-memory/],
    ["\x14\x20\x28\x01", /a saved state of Hyper-V \(\.vmrs\)/],
    ["Xen saved domain, xl format\n \0 \r", /a saved Xen guest .*xl dump-core/],
    ["MDMP\x93\xa7", /a minidump of a Windows process/],
    ["PAGEDU65", /a Microsoft crash dump of a kind that is not known/],
  ])("is refused by its name: %j", async (magic, message) => {
    const open = (options = {}) => openDump(new MemoryByteSource(beginning(magic), "memory"), options);
    expect(() => open()).toThrow(DumpError);
    expect(() => open()).toThrow(/^memory: offset 0x0: expected a dump that can be read, found /);
    expect(() => open()).toThrow(message);
    expect(open({ rawOffset: 0n }).warnings).toEqual([
      expect.stringMatching(/^it begins as .* does, and is read as raw/),
    ]);
    await expect(openDumpFile(file("known.gz", gzipSync(beginning(magic))))).rejects.toThrow(message);
  });

  it("is told by the whole of what it begins with", () => {
    for (const magic of ["hibe", "LibvirtQemudSav3", "QEVN", "QE"]) {
      const bytes = magic === "QE" ? latin1(magic) : beginning(magic);
      expect(() => openDump(new MemoryByteSource(bytes, "memory"))).toThrow(/expected an ELF core.*found/);
    }
  });
});
