/**
 * Every public method of a virtual machine and its vCPUs with arguments that make no sense: a typed error, if any, and the
 * machine goes on. A method that is new has to be listed here.
 */
import { describe, expect, it } from "vitest";
import { decodePrefault, Vcpu, VirtualMachine } from "../../src/mmu/index.js";
import type { Uses } from "../engine-uses.js";
import { expectTypedAnswers, methodsOf } from "../odd-values.js";
import { core, Guest, HIGH_SLOT, registersOf } from "./guest.js";
import { TdpGuest } from "./tdp-guest.js";

const GVA = 0x40_3000n;
const LONG = registersOf("4level", 0x10_0000n);
const PAGE = { pfn: 0x10_0000n, writable: true, level: 1 };
const NPT = { kind: "npt", ncr3: 0x10_0000n, hostCr4: 0x20n, hostEfer: 0xd00n } as const;
const EPT = { kind: "ept", eptp: 0x10_005en, executeOnly: true, hugePageLevel: 3, accessedDirty: true } as const;
const SLOT = { id: 7, gpa: 0x9000_0000n, size: 4096, ram: 0 };
const NOTHING = new Uint8Array(0);

/** A use for each option of `whole`. */
function each<M>(whole: object, use: (machine: M, changed: never) => unknown, more: readonly string[] = []) {
  return [...Object.keys(whole), ...more].map(
    (name) => (machine: M, odd: never) => use(machine, { ...whole, [name]: odd } as never),
  );
}

const VM: Uses<Guest> = {
  // Those that take nothing, and one of the package's own.
  dispose: [],
  adopt: [],
  zapSlotsAlone: [],
  takeFlushes: [],
  pages: [],
  allPages: [],
  audit: [],
  // Pointers and pages come from `pages`; a wrong one is not told from a right one.
  page: [],
  setHardwareBits: [],
  createVcpu: [
    ({ vm }, odd) => vm.createVcpu(odd),
    ...each<Guest>(LONG, ({ vm }, registers) => vm.createVcpu(registers)),
  ],
  createRam: [({ vm }, odd) => vm.createRam(odd)],
  readGuest: [
    ({ vm }, odd) => vm.readGuest(odd, 8),
    ({ vm }, odd) => vm.readGuest(0n, odd),
    ({ vm }, odd) => vm.readGuest(0n, 8, odd),
  ],
  writeGuest: [
    ({ vm }, odd) => vm.writeGuest(odd, NOTHING),
    ({ vm }, odd) => vm.writeGuest(0n, odd),
    ({ vm }, odd) => vm.writeGuest(0n, new Uint8Array(1), odd),
  ],
  markDirty: [({ vm }, odd) => vm.markDirty(odd), ({ vm }, odd) => vm.markDirty(0n, odd)],
  setSlot: [
    ({ vm }, odd) => vm.setSlot(odd),
    ...each<Guest>(SLOT, ({ vm }, slot) => vm.setSlot(slot), [
      "addressSpace",
      "logDirty",
      "readOnly",
      "hva",
      "ramSize",
      "internal",
      "memoryType",
    ]),
  ],
  getDirtyLog: [({ vm }, odd) => vm.getDirtyLog(odd), ({ vm }, odd) => vm.getDirtyLog(1, odd)],
  clearDirtyLog: [
    ({ vm }, odd) => vm.clearDirtyLog(odd, 0, 64, []),
    ({ vm }, odd) => vm.clearDirtyLog(1, odd, 64, []),
    ({ vm }, odd) => vm.clearDirtyLog(1, 0, odd, []),
    ({ vm }, odd) => vm.clearDirtyLog(1, 0, 64, odd),
    ({ vm }, odd) => vm.clearDirtyLog(1, 0, 64, [odd]),
    ({ vm }, odd) => vm.clearDirtyLog(1, 0, 64, [], odd),
  ],
  setPageLimit: [({ vm }, odd) => vm.setPageLimit(odd)],
  recoverHugePages: [({ vm }, odd) => vm.recoverHugePages(odd)],
  unprotectGfn: [({ vm }, odd) => vm.unprotectGfn(odd)],
  setAliases: [
    ({ vm }, odd) => vm.setAliases(odd),
    ({ vm }, odd) => vm.setAliases({ mask: odd }),
    ({ vm }, odd) => vm.setAliases({ mask: 0n, executeOnly: odd }),
  ],
  unmapRange: [({ vm }, odd) => vm.unmapRange(odd, 0n), ({ vm }, odd) => vm.unmapRange(0n, odd)],
  changePage: [
    ({ vm }, odd) => vm.changePage(odd, PAGE),
    ({ vm }, odd) => vm.changePage(0n, odd),
    ...each<Guest>(PAGE, ({ vm }, page) => vm.changePage(0n, page)),
  ],
  age: [({ vm }, odd) => vm.age(odd, 0n), ({ vm }, odd) => vm.age(0n, odd)],
  testAge: [({ vm }, odd) => vm.testAge(odd, 0n), ({ vm }, odd) => vm.testAge(0n, odd)],
  counter: [({ vm }, odd) => vm.counter(odd)],
  isResident: [({ vm }, odd) => vm.isResident(odd), ({ vm }, odd) => vm.isResident(0n, odd)],
};

const VCPU: Uses<Guest> = {
  // The package's own.
  adopt: [],
  enterGuest: [],
  releaseNested: [],
  roots: [],
  enterSmm: [],
  // The fast call checks nothing, and says so.
  fault: [],
  pageFault: [({ vcpu }, odd) => vcpu.pageFault(odd, 0), ({ vcpu }, odd) => vcpu.pageFault(GVA, odd)],
  prefault: [
    ({ vcpu }, odd) => vcpu.prefault(odd, new Uint32Array(1), 0),
    ({ vcpu }, odd) => vcpu.prefault(BigUint64Array.of(GVA), odd, 0),
    ({ vcpu }, odd) => vcpu.prefault(BigUint64Array.of(GVA), new Uint32Array(1), odd),
  ],
  preFaultMemory: [({ vcpu }, odd) => vcpu.preFaultMemory(odd, 0n), ({ vcpu }, odd) => vcpu.preFaultMemory(0n, odd)],
  unprotectAndRetry: [
    ({ vcpu }, odd) => vcpu.unprotectAndRetry(odd),
    ({ vcpu }, odd) => vcpu.unprotectAndRetry(GVA, odd),
    ({ vcpu }, odd) => vcpu.unprotectAndRetry(GVA, { cpl: odd }),
    ({ vcpu }, odd) => vcpu.unprotectAndRetry(GVA, { rip: odd }),
    ({ vcpu }, odd) => vcpu.unprotectAndRetry(GVA, {}, odd),
  ],
  pageReady: [({ vcpu }, odd) => vcpu.pageReady(odd)],
  injectFault: [
    ({ vcpu }, odd) => vcpu.injectFault(odd, GVA),
    ({ vcpu }, odd) => vcpu.injectFault(0, odd),
    ({ vcpu }, odd) => vcpu.injectFault(0, GVA, odd),
  ],
  walk: [({ vcpu }, odd) => vcpu.walk(odd, 0), ({ vcpu }, odd) => vcpu.walk(GVA, odd)],
  emulatedWrite: [
    ({ vcpu }, odd) => vcpu.emulatedWrite(odd, NOTHING),
    ({ vcpu }, odd) => vcpu.emulatedWrite(0x20_0000n, odd),
  ],
  invlpg: [({ vcpu }, odd) => vcpu.invlpg(odd)],
  invpcid: [
    ({ vcpu }, odd) => vcpu.invpcid(odd, 0, 0n),
    ({ vcpu }, odd) => vcpu.invpcid(1, odd, 0n),
    ({ vcpu }, odd) => vcpu.invpcid(0, 0, odd),
  ],
  invept: [({ vcpu }, odd) => vcpu.invept(odd)],
  writeCr3: [({ vcpu }, odd) => vcpu.writeCr3(odd)],
  writeCr0: [({ vcpu }, odd) => vcpu.writeCr0(odd)],
  writeCr4: [({ vcpu }, odd) => vcpu.writeCr4(odd)],
  writeEfer: [({ vcpu }, odd) => vcpu.writeEfer(odd)],
  setRegisters: [
    ({ vcpu }, odd) => vcpu.setRegisters(odd),
    ...each<Guest>(LONG, ({ vcpu }, registers) => vcpu.setRegisters(registers)),
  ],
  setGuestRegisters: [
    ({ vcpu }, odd) => vcpu.setGuestRegisters(odd),
    ({ vcpu }, odd) => vcpu.setGuestRegisters({ cr3: odd }),
  ],
  setAc: [({ vcpu }, odd) => vcpu.setAc(odd)],
  setPkru: [({ vcpu }, odd) => vcpu.setPkru(odd)],
  leaveSmm: [({ vcpu }, odd) => vcpu.leaveSmm(odd)],
  enterNested: [({ vcpu }, odd) => vcpu.enterNested(odd), ({ vcpu }, odd) => vcpu.enterNested(LONG, odd)],
  exitNested: [({ vcpu }, odd) => vcpu.exitNested(odd)],
};

function guestWithLog(): Guest {
  const guest = new Guest({ manualDirtyLog: 1 });
  const root = guest.table();
  guest.map(root, GVA, 0x20_0000n);
  guest.start("4level", root);
  const { pages, flags: _, core: __, base, addressSpace: ___, ...slot } = guest.vm.state.slots.find(0, 1)!;
  guest.vm.setSlot({ id: slot.id, gpa: base << 12n, size: pages * 4096, ram: slot.ram, hva: slot.hva, logDirty: true });
  return guest;
}

describe.each<[string, { readonly prototype: object }, Uses<Guest>]>([
  ["a virtual machine", VirtualMachine, VM],
  ["a vCPU", Vcpu, VCPU],
])("arguments to %s that make no sense", (_, type, uses) => {
  it("are tried of every method", () => {
    expect(Object.keys(uses).sort()).toEqual(methodsOf(type));
  });

  it.each(Object.entries(uses))("get a typed error of %s, if any, and everything goes on", (name, list) => {
    const guest = guestWithLog();
    const root = guest.vcpu.registers.cr3;
    list.forEach((use, index) => {
      expectTypedAnswers(`${name}, use ${index}`, (odd) => use(guest, odd));
    });
    guest.vcpu.setRegisters(registersOf("4level", root));
    expect(guest.access(GVA, 2)).toBe("ok");
    guest.vm.writeGuest(HIGH_SLOT, Uint8Array.of(1));
    expect(guest.vm.getDirtyLog(1)).toEqual([0]);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe("configurations that make no sense", () => {
  it.each(["npt", "ept"] as const)("get a typed error as a second stage on %s", (format) => {
    const guest = new TdpGuest(format);
    const stage = format === "npt" ? NPT : EPT;
    const more = format === "ept" ? ["pdptes"] : [];
    for (const use of each<TdpGuest>(stage, ({ vcpu }, odd) => vcpu.enterNested(LONG, odd), more)) {
      expectTypedAnswers("enterNested", (odd) => use(guest, odd));
      if (guest.vcpu.inGuestMode) guest.vcpu.exitNested(guest.registers);
    }
    expect(guest.access(0x5000n, "write")).toBe("ok");
    expect(guest.vm.audit()).toEqual([]);
    guest.vm.dispose();
  });

  it("get a typed error as a machine's", () => {
    const { linear } = core().internals();
    const free = linear.freeBytes;
    const make = (config: object) => new VirtualMachine(core(), config).dispose();
    expectTypedAnswers("all of it", (odd) => make(odd));
    const options = [
      "kernel",
      "kernelRules",
      "masks",
      "paging",
      "tdpMmu",
      "tdpLevels",
      "pageModificationLog",
      "virtualization",
      "hostPhysicalBits",
      "guestPhysicalBits",
      "hostPage1g",
      "guestAmd",
      "nestedPdptes",
      "maxHugeLevel",
      "manualDirtyLog",
      "minimumRootLevel",
      "hostMemory",
      "encryption",
      "aliases",
      "rangedFlush",
      "eventCapacity",
      "staleDirectRoleBits",
    ];
    for (const name of options) expectTypedAnswers(name, (odd) => make({ [name]: odd }));
    for (const name of ["forced", "max"]) {
      expectTypedAnswers(`tdpLevels.${name}`, (odd) =>
        make({ paging: "npt", tdpLevels: { forced: 0, max: 4, [name]: odd } }),
      );
    }
    expect(linear.freeBytes).toBe(free);
  });

  it("get a typed error of what decodes a result", () => {
    expectTypedAnswers("decodePrefault", (odd) => decodePrefault(odd));
  });
});
