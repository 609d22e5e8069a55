/**
 * A nested guest on the model of KVM's MMU: L1 runs L2 behind NPT tables of its own, which KVM shadows. A fault of L2 is mended,
 * another one is L1's to handle. Addresses that the model takes are bigints.
 */
import { loadSync } from "x86-paging";
import { decodeWord } from "x86-paging/decode";
import { VirtualMachine } from "x86-paging/mmu";

const SIZE = 16 << 20;
const vm = new VirtualMachine(loadSync(), { paging: "npt" });
vm.setSlot({ id: 0, gpa: 0n, size: SIZE, ram: vm.createRam(SIZE) });
const set = (gpa, value) => vm.writeGuest(gpa, new Uint8Array(new BigUint64Array([value]).buffer));

// L1's nested page tables at 0x10000: L2's pages 0 to 15 are L1's from 0x200000 on; page 6 cannot be written.
set(0x10000n, 0x11007n);
set(0x11000n, 0x12007n);
set(0x12000n, 0x13007n);
for (let page = 0n; page < 16n; page++)
  set(0x13000n + 8n * page, (0x200000n + (page << 12n)) | (page === 6n ? 5n : 7n));

// L2's own tables at its 0x1000: linear 0 is its page 5, linear 0x1000 its page 6.
set(0x201000n, 0x2007n);
set(0x202000n, 0x3007n);
set(0x203000n, 0x4007n);
set(0x204000n, 0x5007n);
set(0x204008n, 0x6007n);

const registers = { cr0: 0x80010001n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n };
const vcpu = vm.createVcpu(registers);
vcpu.enterGuest();

// VMRUN; each entry, of a nested guest too, begins with enterGuest.
vcpu.enterNested(registers, { kind: "npt", ncr3: 0x10000n, hostCr4: 0x20n, hostEfer: 0xd00n });
vcpu.enterGuest();

// The processor faults at guest-physical addresses of L2: first at its tables, then where the access goes.
const [READ, WRITE] = [4, 6]; // PFERR, see `x86-paging decode pferr`
for (const table of [0x1000n, 0x2000n, 0x3000n, 0x4000n]) {
  console.log(`table ${table.toString(16)}:`, vcpu.pageFault(table, WRITE, { guestTable: true }).result);
}
console.log("read of 5000:", vcpu.pageFault(0x5000n, READ).result);

const refused = vcpu.pageFault(0x6000n, WRITE);
console.log("write of 6000:", refused.result, refused.nested ? "to L1" : "");
console.log(" ", decodeWord("exitinfo1", BigInt(refused.exitInfo)).summary);

// A walk of L2's linear address gives L1's guest-physical one.
console.log("L2's linear 0x123:", vcpu.walk(0x123n, READ).gpa.toString(16));

vcpu.exitNested(registers);
vcpu.enterGuest();
console.log("audit:", vm.audit().length, "problems");
vm.dispose();
