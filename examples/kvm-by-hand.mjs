/**
 * KVM's MMU model by hand: a guest with shadow paging reads and writes a page, then maps its own page table and writes there.
 * Prints each step's events in the kernel's words, and the shadow pages with their roles.
 */
import { loadSync } from "x86-paging";
import { VirtualMachine } from "x86-paging/mmu";
import { printEvent, TEXT_KINDS } from "x86-paging/recording";
import { decodeRole, layoutOfKernel, splitRole } from "x86-paging/role";

const PROJECT = layoutOfKernel("project");
const RIGHTS = 7n; // present, writable, user

const vm = new VirtualMachine(loadSync(), { paging: "shadow", eventCapacity: 1000 });
vm.setSlot({ id: 0, gpa: 0n, size: 1 << 20, ram: vm.createRam(1 << 20), hva: 0x70000000n });

/** Writes an entry of the guest's tables, as the host may. */
const set = (gpa, value) => vm.writeGuest(gpa, new Uint8Array(new BigUint64Array([value]).buffer));

// Four levels for the linear addresses 0x5000, a page, and 0x6000, the page table itself.
set(0x1000n, 0x2000n | RIGHTS);
set(0x2000n, 0x3000n | RIGHTS);
set(0x3000n, 0x4000n | RIGHTS);
set(0x4028n, 0x5000n | RIGHTS);
set(0x4030n, 0x4000n | RIGHTS);

const vcpu = vm.createVcpu({ cr0: 0x80010001n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n });
vcpu.enterGuest();

vm.events.sink = (event) => {
  if (TEXT_KINDS.has(event.ev)) console.log(`  ${event.ev}: ${printEvent(event)}`);
};
const step = (title, act) => {
  console.log(`\n${title}`);
  console.log(`  -> ${act()}`);
};

const [READ, WRITE] = [4, 6]; // page-fault error codes of user accesses to what is not mapped yet
step("a read of 0x5000: every level is made", () => vcpu.pageFault(0x5000n, READ).result);
step("a write to 0x5000: the guest's dirty flag first", () => vcpu.pageFault(0x5000n, WRITE | 1).result);
step(
  "a write to the page table at 0x6000: it is shadowed, so it goes out of sync",
  () => vcpu.pageFault(0x6000n, WRITE).result,
);

console.log("\nshadow pages:");
for (const { gfn, role, unsync } of vm.pages()) {
  const { level, access } = decodeRole(PROJECT, splitRole(BigInt(role))).base.fields;
  console.log(`  gfn ${gfn.toString(16)}, level ${level}, access ${access}${unsync ? ", unsync" : ""}`);
}
console.log(`audit: ${vm.audit().length} problems`);
vm.dispose();
