/** Memory encryption: a bit of every entry that is no part of its address. */
import { describe, expect, it } from "vitest";
import type { HostPage, VirtualMachineConfig } from "../../src/mmu/index.js";
import { legacyMasks } from "../../src/spte/index.js";
import { Guest } from "./guest.js";

const C_BIT = 1n << 47n;
const MASKS = legacyMasks({ physBits: 46, encryption: { mask: C_BIT, value: C_BIT } });
const GPA = 0x3000n;
const HVA = 0x7f00_0000_3000n;
const READ = 4;
const WRITE = 6;

const started = (config: Partial<VirtualMachineConfig> = {}) => {
  const guest = new Guest({ masks: MASKS, ...config });
  guest.start("nopg", 0n);
  return guest;
};

/** The leaf SPTE for GPA; the level-1 table maps the first 2 MiB. */
function leafOf(guest: Guest): bigint {
  const table = guest.vm.allPages().find(({ role, gfn }) => (role & 15) === 1 && gfn === 0n)!.table;
  return guest.vm.state.core.pages.entry(table, Number(GPA >> 12n));
}

const KINDS: readonly (readonly [string, Partial<VirtualMachineConfig>])[] = [
  ["shadow paging", {}],
  ["the classic direct MMU", { paging: "npt" }],
  ["the TDP MMU", { paging: "npt", tdpMmu: true }],
];

describe.each(KINDS)("encrypted memory with %s", (_name, config) => {
  it("keeps its bit when the host puts another page behind an address", () => {
    const guest = started(config);
    guest.vcpu.pageFault(GPA, WRITE);
    expect(leafOf(guest) & C_BIT).toBe(C_BIT);
    const page: HostPage = { pfn: 0x30_0000n, writable: false, level: 1 };
    guest.vm.changePage(HVA, page);
    expect(leafOf(guest) & C_BIT).toBe(C_BIT);
    expect(leafOf(guest) & 0x3fff_ffff_f000n).toBe(page.pfn << 12n);
    expect(guest.vm.counter("BROKEN")).toBe(0);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("does not make a fault on a mapped page look like one on another page", () => {
    const guest = started(config);
    guest.vcpu.pageFault(GPA, WRITE);
    // The second fault keeps W and leaves D to the processor (make_spte).
    guest.vcpu.pageFault(GPA, READ);
    const flushes = guest.vm.counter("FLUSHES");
    expect(guest.vcpu.pageFault(GPA, READ).result).toBe("spurious");
    expect(guest.vm.counter("FLUSHES")).toBe(flushes);
    guest.dispose();
  });
});
