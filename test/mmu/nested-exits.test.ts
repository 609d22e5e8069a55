/** What L1 sees of the exit when its second stage is at fault: the whole exit qualification, or EXITINFO1. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import { EPT, EPT_RWX, NestedEpt, NestedNpt, UNPAGED } from "./nested-guest.js";

const GPA = 0x40_3000n;
const PAGE = 0x20_0000n;
const PFERR = { w: 2, u: 4, fetch: 16 } as const;
const VALID = 0x80n;
const FINAL = 0x100n;

/** An L1 whose EPT maps GPA with `rights`; L2 runs without paging, or with tables at GPA. */
function entered(rights: bigint, config = {}, registers = UNPAGED): NestedEpt {
  const guest = new NestedEpt(config);
  guest.mapEpt(GPA, PAGE, rights);
  guest.enter(registers);
  return guest;
}

describe('SDM "Exit Qualification for EPT Violations": a fault of L1\'s EPT', () => {
  it.each<[string, bigint, number, bigint]>([
    ["a write to a page that can be read", EPT.r, PFERR.w, 0xan],
    ["a write to a page that can be read and run", EPT.r | EPT.x, PFERR.w, 0x2an],
    ["a fetch from a page that can be read and written", EPT.r | EPT.w, PFERR.fetch, 0x1cn],
    ["a read of a page that can only be run", EPT.x, PFERR.u, 0x21n],
    ["a read of nothing", 0n, PFERR.u, 0x1n],
    ["a fetch from nothing", 0n, PFERR.fetch, 0x4n],
  ])("has the access and the rights of L1's entries: %s", (_, rights, code, expected) => {
    const guest = entered(rights);
    const outcome = guest.vcpu.pageFault(GPA, code);
    expect(outcome).toMatchObject({ result: "inject", nested: true, exitInfo: expected | VALID | FINAL });
    const onTable = guest.vcpu.pageFault(GPA, code, { guestTable: true });
    expect(onTable).toMatchObject({ exitInfo: expected | VALID });
    guest.dispose();
  });

  it("ANDs the rights of all levels", () => {
    const guest = entered(EPT_RWX);
    const top = guest.entryAddress(guest.root, GPA, 4);
    guest.vm.writeGuest(top, new Uint8Array(new BigUint64Array([guest.read(top) & ~EPT.w]).buffer));
    expect(guest.vcpu.pageFault(GPA, PFERR.w)).toMatchObject({ exitInfo: 0x2an | VALID | FINAL });
    guest.dispose();
  });

  it("hands bits 8:7 of the processor's exit on, and 11:9 with advanced information", () => {
    for (const [advancedExitInformation, bits] of [
      [false, 0n],
      [true, 0xa00n],
    ] as const) {
      const guest = entered(EPT.r, { advancedExitInformation });
      const told = (exitQualification: bigint) => guest.vcpu.pageFault(GPA, PFERR.w, { exitQualification });
      expect(told(0xb82n)).toMatchObject({ exitInfo: 0xan | VALID | FINAL | bits });
      expect(told(0x82n)).toMatchObject({ exitInfo: 0xan | VALID });
      expect(told(0x2n)).toMatchObject({ exitInfo: 0xan });
      guest.dispose();
    }
  });

  it("has none where it is a misconfiguration", () => {
    const guest = entered(EPT.w);
    const outcome = guest.vcpu.pageFault(GPA, PFERR.w);
    expect(outcome).toMatchObject({ result: "inject", nested: true });
    expect(outcome).not.toHaveProperty("exitInfo");
    guest.dispose();
  });

  it("of a walk by software says whether a table of L2's or the page was meant", () => {
    const paged = { cr0: 0x8000_0001n, cr3: GPA, cr4: 0x20n, efer: 0x500n };
    const guest = entered(0n, {}, paged);
    expect(guest.vcpu.walk(0x1000n, PFERR.u)).toMatchObject({ nested: true, address: GPA, exitInfo: 3n | VALID });
    const flat = entered(EPT.r);
    expect(flat.vcpu.walk(GPA, PFERR.w)).toMatchObject({ nested: true, exitInfo: 0xbn | VALID | FINAL });
    guest.dispose();
    flat.dispose();
  });

  it("is no part of a fault of L2's own tables", () => {
    const guest = entered(EPT_RWX, {}, { cr0: 0x8000_0001n, cr3: GPA, cr4: 0x20n, efer: 0x500n });
    const walk = guest.vcpu.walk(0x1000n, PFERR.u);
    expect(walk).toMatchObject({ ok: false, nested: false, errorCode: 4 });
    expect(walk).not.toHaveProperty("exitInfo");
    guest.dispose();
  });
});

it('APM "Nested versus Guest Page Faults": EXITINFO1 says whether a table or the page was meant', () => {
  const guest = new NestedNpt(4, "4level");
  guest.map(guest.root, GPA, PAGE);
  guest.enter();
  expect(guest.touch(GPA, Access.Read | Access.User)).toBe(PAGE >> 12n);
  const other = GPA + 0x1000n;
  expect(guest.vcpu.pageFault(other, 6)).toMatchObject({ result: "inject", nested: true, exitInfo: (1n << 32n) | 6n });
  const onTable = guest.vcpu.pageFault(other, 6, { guestTable: true });
  expect(onTable).toMatchObject({ exitInfo: (1n << 33n) | 6n });
  guest.dispose();
});
