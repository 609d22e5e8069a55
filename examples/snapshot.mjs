// An emulator's snapshot: registers, the software TLB with its stale entries and guest RAM go into one file, and another
// process goes on from there as if nothing had happened.
import { Access, loadSync } from "x86-paging";
import { createMemory, createSpace, restoreSpace, saveMemory, saveSpace } from "x86-paging/state";

const REGISTERS = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00, tlbEntries: 64 };

/** A guest with a page that its TLB knows better than its tables. */
function run() {
  const core = loadSync();
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 1 << 20 }] });
  for (const table of [1, 2, 3]) memory.writeU64(table << 12, BigInt(((table + 1) << 12) | 7));
  memory.writeU64(0x4000, 0x5007n);
  const space = core.createAddressSpace(memory, REGISTERS);
  space.translateFast(0, 0x123, Access.Read);
  memory.writeU64(0x4000, 0x6007n);
  return { memory, space };
}

/** What an emulator would write into its file, beside its own devices and registers. */
export const save = ({ memory, space }) => ({ memory: saveMemory(memory, { ram: true }), space: saveSpace(space) });

/** The same guest over a core of this process: the memory first, because changes of slots empty TLBs. */
export function load(states) {
  const core = loadSync();
  const memory = createMemory(core, states.memory);
  return { memory, space: createSpace(core, memory, states.space) };
}

const guest = run();
const states = save(guest);
const again = load(states);
const found = ({ space }) => space.translateFast(0, 0x123, Access.Read).toString(16);
console.log(`saved ${states.space.byteLength} bytes of a space, ${states.memory.byteLength} of its memory`);
console.log(`both translate 0x123 to 0x${found(guest)} and 0x${found(again)}, which the tables no longer say`);

again.space.invlpg(0x123);
console.log(`after INVLPG the new one finds 0x${found(again)}`);
restoreSpace(again.space, states.space);
console.log(`back in place: 0x${found(again)}`);
