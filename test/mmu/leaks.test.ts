/** Whatever is done again and again takes no more memory than doing it a few times. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import { bytesOf, FULL, Guest, HIGH_SLOT, type Mode, RAM_HVA, registersOf } from "./guest.js";
import { countAllocated } from "./machines/allocated.js";
import { NestedEpt, NestedNpt, UNPAGED } from "./nested-guest.js";
import { LARGE_GPA, TdpGuest } from "./tdp-guest.js";

const GVA = 0x40_3000n;
const PAGE = 0x20_0000n;
const WARM_UP = 60;
const ROUNDS = 3000;

/** Bytes that `round` has taken after many rounds, beyond what a few took. */
function growth(guest: { readonly vm: Guest["vm"] }, round: (i: number) => void, rounds = ROUNDS): number {
  for (let i = 0; i < WARM_UP; i++) round(i);
  const counter = countAllocated(guest.vm.state.core.internals);
  for (let i = 0; i < rounds; i++) round(WARM_UP + i);
  counter.undo();
  return counter.bytes;
}

function started(mode: Mode): Guest {
  const guest = new Guest();
  guest.mode = mode;
  const root = guest.table();
  guest.map(root, GVA, PAGE);
  guest.map(root, 0x80_3000n, PAGE);
  guest.start(mode, root);
  return guest;
}

describe.each(["nopg", "32", "pae", "4level", "5level"] as const)("a %s guest takes no more memory", (mode) => {
  it.each<[string, (guest: Guest, i: number) => void]>([
    ["with every zap of all pages", (guest) => guest.vm.state.core.zapAllFast()],
    ["with every zap of a table's pages", (guest) => void guest.vm.unprotectGfn(0x101n)],
    [
      "with every other root",
      (guest, i) => {
        const registers = registersOf(guest.mode, 0x10_0000n);
        guest.vcpu.setRegisters(i & 1 ? { ...registers, cr0: 1n, efer: registers.efer & ~0x400n } : registers);
      },
    ],
    ["with every unmapped page", (guest) => guest.vm.unmapRange(RAM_HVA + PAGE, RAM_HVA + PAGE + 0x1000n)],
  ])("%s", (_what, act) => {
    const guest = started(mode);
    const round = (i: number) => {
      act(guest, i);
      guest.vm.state.settle();
      guest.vcpu.enterGuest();
      guest.vcpu.pageFault(GVA, 2);
      guest.vcpu.pageFault(0x80_3000n, 2);
    };
    expect(growth(guest, round)).toBe(0);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("a guest takes no more memory", () => {
  it("with every slot that comes and goes, and is logged meanwhile", () => {
    const guest = started("4level");
    const slot = { id: 9, gpa: 0x9000_0000n, size: 0x8_0000, ram: guest.ram };
    const round = () => {
      guest.vm.setSlot({ ...slot, logDirty: true });
      guest.vm.setSlot({ ...slot, logDirty: false });
      guest.vm.setSlot({ ...slot, gpa: 0xa000_0000n });
      guest.vm.setSlot({ ...slot, size: 0 });
    };
    expect(growth(guest, round, 300)).toBe(0);
    guest.dispose();
  });

  it("with every write to a page of many mappings", () => {
    const guest = started("4level");
    const root = 0x10_0000n;
    for (let i = 0n; i < 64n; i++) guest.map(root, 0x1_0000_0000n + (i << 12n), PAGE, FULL);
    const round = () => {
      for (let i = 0n; i < 64n; i++) guest.vcpu.pageFault(0x1_0000_0000n + (i << 12n), 2);
      guest.vm.unmapRange(RAM_HVA + PAGE, RAM_HVA + PAGE + 0x1000n);
    };
    expect(growth(guest, round, 500)).toBe(0);
    guest.dispose();
  });

  it("with every emulated write to its tables", () => {
    const guest = started("4level");
    const root = 0x10_0000n;
    const entry = guest.read(root);
    const round = () => {
      guest.vcpu.emulatedWrite(root, bytesOf(0n, 8));
      guest.vcpu.emulatedWrite(root, bytesOf(entry, 8));
      expect(guest.access(GVA, Access.Write)).toBe("ok");
    };
    expect(growth(guest, round, 300)).toBe(0);
    guest.dispose();
  });

  it.each(["npt", "ept"] as const)("in the TDP MMU with every split, collapse and zapped root (%s)", (format) => {
    const guest = new TdpGuest(format);
    const round = () => {
      guest.access(LARGE_GPA, "write");
      guest.access(0x3000n, "write");
      guest.vm.setSlot(guest.slot(1, true));
      guest.access(LARGE_GPA + 0x5000n, "write");
      guest.vm.setSlot(guest.slot(1, false));
      guest.toggleNested();
      guest.access(LARGE_GPA, "write");
      guest.toggleNested();
      guest.vm.state.core.zapAllFast();
      guest.vm.state.settle();
    };
    expect(growth(guest, round, 300)).toBe(0);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("with every nested guest, by EPT and by NPT", () => {
    const ept = new NestedEpt();
    ept.mapEpt(0x5000n, PAGE);
    const round = () => {
      ept.enter(UNPAGED);
      ept.touch(0x5000n, Access.Write);
      ept.exit();
      ept.vcpu.invept("all");
    };
    expect(growth(ept, round, 500)).toBe(0);
    ept.dispose();
    for (const mode of ["32", "pae", "4level"] as const) {
      const npt = new NestedNpt(4, mode);
      npt.map(npt.root, 0x5000n, HIGH_SLOT);
      const nptRound = () => {
        npt.enter(UNPAGED);
        npt.touch(0x5000n, Access.Write);
        npt.exit();
        npt.vcpu.releaseNested();
      };
      expect(growth(npt, nptRound, 300)).toBe(0);
      npt.dispose();
    }
  });
});

it("a VM that is gone leaves nothing, however far apart its tables lay", () => {
  const guest = started("4level");
  guest.dispose();
  const counter = countAllocated(guest.vm.state.core.internals);
  const big = started("4level");
  // Tables behind a lot of RAM, three times: the map from tables to pages grows for them.
  const ram = [1, 2, 3].map((round) => {
    const taken = big.vm.createRam(round * (12 << 20));
    for (let i = 0n; i < 40n; i++) {
      const gva = (BigInt(round) << 44n) + (i << 39n);
      big.map(0x10_0000n, gva, PAGE);
      expect(big.access(gva, Access.Write)).toBe("ok");
    }
    return taken;
  });
  expect(ram).toHaveLength(3);
  expect(big.vm.audit()).toEqual([]);
  big.dispose();
  expect(counter.bytes).toBe(0);
  counter.undo();
});
