/** What every runtime and every bundle has to do, and what comes of it. */

/**
 * A module that walks with the core, with the reference and through a compressed dump of PAE tables (whose decompressor is a
 * module that is loaded when it is needed), decodes, and has the other entries in it; `use(bytes)` takes the dump.
 */
export const USE = `
import { Access, load, loadSync } from "x86-paging";
import { decodeWord } from "x86-paging/decode";
import { openDumpAsync, registersFromDump } from "x86-paging/dump";
import { explain } from "x86-paging/explain";
import { VirtualMachine } from "x86-paging/mmu";
import { createReference } from "x86-paging/reference";
import { decodeRole, layoutOfKernel, splitRole } from "x86-paging/role";

function translated(engine) {
  const memory = engine.createMemory({ slots: [{ gpa: 0, size: 1 << 20 }] });
  memory.writeU64(0x1000, 0x2007n);
  memory.writeU64(0x2000, 0x3007n);
  memory.writeU64(0x3000, 0x200087n);
  const space = engine.createAddressSpace(memory, { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 });
  return space.translate(0x1234, Access.Write | Access.User).pa;
}

export async function use(bytes) {
  const core = await load();
  const found = [core, loadSync(), createReference()].map(translated);
  const { dump, fetching } = await openDumpAsync(bytes);
  const registers = { ...(await fetching(() => registersFromDump(dump))), lenient: true };
  const space = await fetching(() =>
    core.createAddressSpace(core.createMemory({ source: dump.tableSource }), registers));
  const pages = await fetching(() => [...space.mappings()].length);
  const role = decodeRole(layoutOfKernel("6.1"), splitRole(0x3704n));
  return [
    ...found.map((pa) => pa.toString(16)), space.mode, pages, typeof VirtualMachine, typeof explain, typeof role,
    decodeWord("error-code", 7n).summary,
  ].join(" | ");
}
`;

/** The dump for `use`: small, and compressed with gzip. */
export const DUMP = "test/fixtures/dumps/i386-pae/pt.elf.gz";
