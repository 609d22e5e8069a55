/** Slots beside the guest's RAM, in the blocks of 2 MiB and 1 GiB that hold its ends, as a PC has them. */
import type { VirtualMachine } from "../../../src/mmu/index.js";
import { HIGH_PAGES, HIGH_SLOT, RAM_PAGES } from "../guest.js";
import type { Host } from "./host.js";

const END = BigInt(RAM_PAGES) << 12n;
const HVA = 0x7fc0_0000_0000n;

/** Two in one block of 2 MiB behind RAM, and two behind the slot of large pages. */
export const NEIGHBOURS: readonly { readonly gpa: bigint; readonly pages: number }[] = [
  { gpa: END, pages: 300 },
  { gpa: END + (300n << 12n), pages: 3 },
  { gpa: HIGH_SLOT + (BigInt(HIGH_PAGES) << 12n), pages: 1 },
  { gpa: HIGH_SLOT + (BigInt(HIGH_PAGES + 2) << 12n), pages: 520 },
];

/** Adds them as slots 6 and up, on host memory of large pages. */
export function addNeighbours(vm: VirtualMachine, host: Host): void {
  NEIGHBOURS.forEach(({ gpa, pages }, i) => {
    const ram = vm.createRam(pages * 4096);
    // In step with large pages wherever the slot begins.
    const hva = HVA + (BigInt(i) << 30n) + (gpa & 0x1f_f000n);
    host.add({ hva, ram, pages, level: 1 });
    vm.setSlot({ id: 6 + i, gpa, size: pages * 4096, ram, hva });
  });
}
