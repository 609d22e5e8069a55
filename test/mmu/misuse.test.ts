/** Misuse of the interface: refused with a typed error before anything changes. */
import { describe, expect, it } from "vitest";
import { BusyError, ConfigError, DisposedError, PagingError, UnsupportedError } from "../../src/index.js";
import { type HostPage, type SecondStage, VirtualMachine, type VirtualMachineConfig } from "../../src/mmu/index.js";
import { core, Guest } from "./guest.js";
import { TdpGuest } from "./tdp-guest.js";

const LONG = { cr0: 0x8001_0001n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n };
const GVA = 0x40_3000n;

describe("a VM's configuration", () => {
  it.each<[string, object | null]>([
    ["nothing", null],
    ["an unknown option", { nested: true }],
    ["paging in capitals", { paging: "NPT" }],
    ["a flag that is a number", { tdpMmu: 1 }],
    ["a vendor", { virtualization: "amd" }],
    ["PDPTEs of another kind", { nestedPdptes: "dead" }],
    ["no room for -1 events", { eventCapacity: -1 }],
    ["no room for NaN events", { eventCapacity: Number.NaN }],
    ["too many events", { eventCapacity: 2 ** 30 }],
    ["host bits that are none", { hostPhysicalBits: 31 }],
    ["guest bits that are none", { guestPhysicalBits: 53 }],
    ["pages of level 4", { maxHugeLevel: 4 }],
    ["pages of level 0", { maxHugeLevel: 0 }],
    ["a root of level 2", { minimumRootLevel: 2 }],
    ["initially set without manual protection", { manualDirtyLog: 2 }],
    ["an unknown dirty-log bit", { manualDirtyLog: 4 }],
    ["levels that are no object", { tdpLevels: 4 }],
    ["levels of 6", { paging: "npt", tdpLevels: { forced: 0, max: 6 } }],
    ["more levels than there are", { paging: "npt", tdpLevels: { forced: 5, max: 4 } }],
    ["masks that are incomplete", { masks: { user: 4n } }],
    ["a host without peek", { hostMemory: { pin: () => undefined } }],
    ["encryption without a way back", { encryption: { decrypt: () => {} } }],
    ["aliases that are numbers", { paging: "npt", aliases: { mask: 2 ** 40 } }],
    ["role bits beyond a role", { staleDirectRoleBits: 2 ** 32 }],
  ])("%s is refused, and nothing stays allocated", (_, config) => {
    const { linear } = core().internals();
    const free = linear.freeBytes;
    expect(() => new VirtualMachine(core(), config as VirtualMachineConfig)).toThrow(ConfigError);
    expect(linear.freeBytes).toBe(free);
  });

  it.each([Number.NaN, -4096, 0, 4095, 2 ** 53, "4096", 4096n])("RAM of %s bytes is refused", (size) => {
    const guest = new Guest();
    expect(() => guest.vm.createRam(size as number)).toThrow(ConfigError);
    guest.dispose();
  });
});

describe("a vCPU's registers", () => {
  const bad: [string, object][] = [
    ["nothing", {}],
    ["numbers", { ...LONG, cr3: 0x1000 }],
    ["a negative CR3", { ...LONG, cr3: -1n }],
    ["a CR3 beyond 64 bits", { ...LONG, cr3: 1n << 64n }],
    ["paging without protection", { ...LONG, cr0: 0x8000_0000n }],
    ["long mode without PAE", { ...LONG, cr4: 0n }],
    ["long mode without paging", { ...LONG, cr0: 1n }],
    ["an unknown register", { ...LONG, cr2: 0n }],
  ];
  it.each(bad)("%s: refused wherever registers are given", (_, registers) => {
    const guest = new Guest();
    guest.mode = "4level";
    const root = guest.table();
    guest.map(root, GVA, 0x20_0000n);
    const vcpu = guest.start("4level", root);
    const before = [vcpu.registers, vcpu.inSmm, vcpu.inGuestMode, guest.vm.pages().length];
    for (const use of [
      () => guest.vm.createVcpu(registers as typeof LONG),
      () => vcpu.setRegisters(registers as typeof LONG),
      () => vcpu.leaveSmm(registers as typeof LONG),
      () => vcpu.enterNested(registers as typeof LONG),
      () => vcpu.exitNested(registers as typeof LONG),
    ]) {
      expect(use).toThrow(ConfigError);
    }
    expect([vcpu.registers, vcpu.inSmm, vcpu.inGuestMode, guest.vm.pages().length]).toEqual(before);
    expect(guest.vm.vcpus).toHaveLength(1);
    guest.dispose();
  });
});

describe("a second stage of L1's", () => {
  const npt = { kind: "npt", ncr3: 0x10_0000n, hostCr4: 0x20n, hostEfer: 0xd00n } as const;
  const ept = { kind: "ept", eptp: 0x10_005en, executeOnly: true, hugePageLevel: 3, accessedDirty: true } as const;
  it.each<["npt" | "ept", string, object]>([
    ["npt", "of no kind", { ...npt, kind: "tdp" }],
    ["npt", "with numbers", { ...npt, ncr3: 0x10_0000 }],
    ["npt", "of 5 levels on a host of 4", { ...npt, hostCr4: 0x1020n }],
    ["npt", "in long mode without PAE", { ...npt, hostCr4: 0n }],
    ["npt", "with an unknown option", { ...npt, hostCr0: 1n }],
    ["ept", "of 6 levels", { ...ept, eptp: 0x10_006en }],
    ["ept", "of 8 levels", { ...ept, eptp: 0x10_007en }],
    ["ept", "of 5 levels on a processor of 4", { ...ept, eptp: 0x10_0066n }],
    ["ept", "of another memory type", { ...ept, eptp: 0x10_0059n }],
    ["ept", "with reserved bits", { ...ept, eptp: 0x10_00den }],
    ["ept", "beyond MAXPHYADDR", { ...ept, eptp: (1n << 50n) | 0x5en }],
    ["ept", "whose flags contradict its pointer", { ...ept, accessedDirty: false }],
    ["ept", "with pages of level 4", { ...ept, hugePageLevel: 4 }],
    ["ept", "with three PDPTEs", { ...ept, pdptes: [0n, 0n, 0n] }],
  ])("on %s %s is refused, and the vCPU goes on", (format, _, stage) => {
    const guest = new TdpGuest(format);
    const { vcpu } = guest;
    expect(guest.access(0x5000n, "write")).toBe("ok");
    expect(() => vcpu.enterNested(LONG, stage as SecondStage)).toThrow(PagingError);
    expect([vcpu.inGuestMode, vcpu.registers]).toEqual([false, guest.registers]);
    expect(guest.access(0x6000n, "write")).toBe("ok");
    expect(guest.vm.audit()).toEqual([]);
    guest.vm.dispose();
  });

  it("is refused under shadow paging, and inside another nested guest", () => {
    const guest = new Guest();
    const root = guest.table();
    guest.map(root, GVA, 0x20_0000n);
    const vcpu = guest.start("4level", root);
    expect(() => vcpu.enterNested(LONG, npt)).toThrow(UnsupportedError);
    vcpu.enterNested(vcpu.registers);
    expect(() => vcpu.enterNested(vcpu.registers)).toThrow(/exitNested first/);
    guest.dispose();
  });
});

describe("after dispose", () => {
  it("everything of a VM says so, and nothing is freed twice", () => {
    const { linear } = core().internals();
    const free = linear.freeBytes;
    const guest = new Guest();
    const root = guest.table();
    guest.map(root, GVA, 0x20_0000n);
    const vcpu = guest.start("4level", root);
    expect(vcpu.pageFault(GVA, 0).result).toBe("fixed");
    const { vm } = guest;
    vm.dispose();
    expect(linear.freeBytes).toBe(free);
    vm.dispose();
    expect(linear.freeBytes).toBe(free);
    const page = { pfn: 1n, writable: true, level: 1 };
    const uses: Record<string, () => unknown> = {
      createVcpu: () => vm.createVcpu(LONG),
      createRam: () => vm.createRam(4096),
      setSlot: () => vm.setSlot({ id: 0, gpa: 0n, size: 0 }),
      readGuest: () => vm.readGuest(0n, 8),
      writeGuest: () => vm.writeGuest(0n, new Uint8Array(8)),
      markDirty: () => vm.markDirty(0n),
      getDirtyLog: () => vm.getDirtyLog(0),
      clearDirtyLog: () => vm.clearDirtyLog(0, 0, 64, []),
      setPageLimit: () => vm.setPageLimit(64),
      recoverHugePages: () => vm.recoverHugePages(1),
      unprotectGfn: () => vm.unprotectGfn(0n),
      setAliases: () => vm.setAliases({ mask: 0n }),
      takeFlushes: () => vm.takeFlushes(),
      unmapRange: () => vm.unmapRange(0n, 4096n),
      changePage: () => vm.changePage(0n, page),
      age: () => vm.age(0n, 4096n),
      testAge: () => vm.testAge(0n, 4096n),
      pages: () => vm.pages(),
      audit: () => vm.audit(),
      counter: () => vm.counter("USED"),
      enterGuest: () => vcpu.enterGuest(),
      pageFault: () => vcpu.pageFault(GVA, 0),
      fault: () => vcpu.fault(Number(GVA), 0, 0),
      prefault: () => vcpu.prefault(BigUint64Array.of(GVA), new Uint32Array(1), 0),
      pageReady: () => vcpu.pageReady(0n),
      injectFault: () => vcpu.injectFault(0, GVA),
      walk: () => vcpu.walk(GVA, 0),
      emulatedWrite: () => vcpu.emulatedWrite(0n, new Uint8Array(8)),
      invlpg: () => vcpu.invlpg(GVA),
      invpcid: () => vcpu.invpcid(2, 0, 0n),
      writeCr3: () => vcpu.writeCr3(0x2000n),
      writeCr0: () => vcpu.writeCr0(0x8000_0001n),
      writeCr4: () => vcpu.writeCr4(0x20n),
      writeEfer: () => vcpu.writeEfer(0xd00n),
      setRegisters: () => vcpu.setRegisters(LONG),
      setGuestRegisters: () => vcpu.setGuestRegisters({ cr3: 0x2000n }),
      setAc: () => vcpu.setAc(true),
      setPkru: () => vcpu.setPkru(0),
      enterSmm: () => vcpu.enterSmm(),
      leaveSmm: () => vcpu.leaveSmm(LONG),
      enterNested: () => vcpu.enterNested(LONG),
      exitNested: () => vcpu.exitNested(LONG),
      invept: () => vcpu.invept("all"),
      releaseNested: () => vcpu.releaseNested(),
    };
    // Whatever lies there now stays as it is.
    const next = new Guest();
    const bytes = () => core().internals().linear.u8.slice();
    const before = bytes();
    for (const [name, use] of Object.entries(uses)) expect(use, name).toThrow(DisposedError);
    expect(Buffer.compare(bytes(), before)).toBe(0);
    next.dispose();
  });
});

describe("a callback of the host's", () => {
  const page = (hva: bigint): HostPage => ({ pfn: 0x10_0000n + ((hva >> 12n) & 0xf_ffffn), writable: true, level: 1 });

  /** A guest whose next look-up runs `act`. */
  function calling() {
    const next: { pin?: () => void; peek?: () => void } = {};
    const run = (name: "pin" | "peek") => {
      const act = next[name];
      delete next[name];
      act?.();
    };
    const guest = new Guest({
      hostMemory: {
        pin: (hva) => {
          run("pin");
          return page(hva);
        },
        peek: () => {
          run("peek");
          return undefined;
        },
      },
    });
    const root = guest.table();
    for (let i = 0n; i < 8n; i++) guest.map(root, GVA + (i << 12n), 0x20_0000n + (i << 12n));
    const vcpu = guest.start("4level", root);
    return { guest, vcpu, next };
  }

  it("may not use the vCPU whose fault waits for it, whose fault then ends as if it had not tried", () => {
    const { guest, vcpu, next } = calling();
    const uses: (() => unknown)[] = [
      () => vcpu.writeCr0(1n),
      () => vcpu.writeCr3(0x2000n),
      () => vcpu.writeCr4(0n),
      () => vcpu.writeEfer(0n),
      () => vcpu.setRegisters({ cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n }),
      () => vcpu.setGuestRegisters({ cr3: 0x2000n }),
      () => vcpu.enterSmm(),
      () => vcpu.enterNested(vcpu.registers),
      () => vcpu.enterGuest(),
      () => vcpu.pageFault(GVA, 0),
      () => vcpu.fault(Number(GVA), 0, 0),
      () => vcpu.walk(GVA, 0),
      () => vcpu.invlpg(GVA),
      () => vcpu.emulatedWrite(0n, new Uint8Array(8)),
      () => guest.vm.dispose(),
      () => guest.vm.setAliases({ mask: 0n }),
    ];
    const before = vcpu.registers;
    let tried = 0;
    next.pin = () => {
      for (const use of uses) {
        expect(use).toThrow(BusyError);
        tried++;
      }
    };
    expect(vcpu.pageFault(GVA, 2).result).toBe("fixed");
    expect([tried, vcpu.registers]).toEqual([uses.length, before]);
    expect(guest.vm.audit()).toEqual([]);
    // And afterwards it is free again.
    expect(vcpu.pageFault(GVA + 0x1000n, 2).result).toBe("fixed");
    vcpu.writeCr0(0x8000_0001n);
    guest.dispose();
  });

  it("may run other vCPUs, whose faults take from the same stock", () => {
    const { guest, vcpu, next } = calling();
    const other = guest.vm.createVcpu(vcpu.registers);
    other.enterGuest();
    next.pin = () => {
      for (let i = 2n; i < 6n; i++) {
        guest.map(vcpu.registers.cr3, GVA + (i << 40n), 0x21_0000n + (i << 12n));
        expect(other.pageFault(GVA + (i << 40n), 2).result).toBe("fixed");
        expect(() => vcpu.pageFault(GVA, 2)).toThrow(BusyError);
      }
      other.writeCr0(0x8000_0001n);
      other.enterGuest();
    };
    expect(guest.access(GVA, 0, vcpu)).toBe("ok");
    expect(guest.access(GVA + (3n << 40n), 0, vcpu)).toBe("ok");
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("may run other vCPUs, and the one that waits is busy even when they took nothing from the stock", () => {
    const { guest, vcpu, next } = calling();
    const other = guest.vm.createVcpu(vcpu.registers);
    other.enterGuest();
    // The tables are there: the leaf is all that is missing.
    expect(vcpu.pageFault(GVA + 0x1000n, 2).result).toBe("fixed");
    let tried = 0;
    next.pin = () => {
      expect(other.pageFault(GVA + 0x2000n, 2).result).toBe("fixed");
      expect(() => vcpu.pageFault(GVA + 0x3000n, 2)).toThrow(BusyError);
      expect(() => vcpu.fault(Number(GVA + 0x3000n), 0, 2)).toThrow(BusyError);
      tried++;
    };
    expect(vcpu.pageFault(GVA, 2).result).toBe("fixed");
    expect(tried).toBe(1);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("that throws leaves the fault undone, and the VM as it was", () => {
    const { guest, vcpu, next } = calling();
    next.pin = () => {
      throw new Error("no memory left");
    };
    expect(() => vcpu.pageFault(GVA, 2)).toThrow("no memory left");
    expect(guest.vm.audit()).toEqual([]);
    expect(vcpu.pageFault(GVA, 2).result).toBe("fixed");
    guest.dispose();
  });

  it("that throws while a slot is added leaves no slot, and what it had taken is free", () => {
    const { guest, next } = calling();
    const { linear } = core().internals();
    const ram = guest.vm.createRam(0x4000);
    const slot = { id: 7, gpa: 0x9000_0000n, size: 0x4000, ram, hva: 0x7f90_0000_0000n };
    const [free, generation] = [linear.freeBytes, guest.vm.slots.generation(0)];
    next.peek = () => {
      throw new Error("the host is gone");
    };
    expect(() => guest.vm.setSlot(slot)).toThrow("the host is gone");
    expect([linear.freeBytes, guest.vm.slots.generation(0)]).toEqual([free, generation]);
    expect(guest.vm.slots.find(0, 7)).toBeUndefined();
    guest.vm.setSlot(slot);
    // The same in moving it.
    next.peek = () => {
      throw new Error("the host is gone");
    };
    expect(() => guest.vm.setSlot({ ...slot, gpa: 0xa000_0000n })).toThrow("the host is gone");
    expect(guest.vm.slots.find(0, 7)!.base).toBe(0x9_0000n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("that only says what is there may not use the VM at all", () => {
    const { guest, vcpu, next } = calling();
    const ram = guest.vm.createRam(0x4000);
    let tried = 0;
    next.peek = () => {
      for (const use of [
        () => guest.vm.setSlot({ id: 0, gpa: 0n, size: 0 }),
        () => guest.vm.unmapRange(0n, 1n << 62n),
        () => vcpu.writeCr3(0x2000n),
        () => guest.vm.dispose(),
      ]) {
        expect(use).toThrow(BusyError);
        tried++;
      }
    };
    guest.vm.setSlot({ id: 7, gpa: 0x9000_0000n, size: 0x4000, ram, hva: 0x7f90_0000_0000n });
    expect(tried).toBe(4);
    guest.dispose();
  });
});

describe("an argument that is no bigint of 64 bits", () => {
  const odd: readonly unknown[] = [undefined, null, 4096, Number.NaN, "0x1000", -1n, (1n << 64n) + 1n, {}, Symbol("a")];
  const page = { pfn: 1n, writable: true, level: 1 };
  const uses: readonly [string, (guest: Guest, odd: bigint) => unknown][] = [
    ["readGuest", ({ vm }, value) => vm.readGuest(value, 8)],
    ["writeGuest", ({ vm }, value) => vm.writeGuest(value, new Uint8Array(8))],
    ["markDirty", ({ vm }, value) => vm.markDirty(value)],
    ["unprotectGfn", ({ vm }, value) => vm.unprotectGfn(value)],
    ["unmapRange from", ({ vm }, value) => vm.unmapRange(value, 1n << 62n)],
    ["unmapRange to", ({ vm }, value) => vm.unmapRange(0n, value)],
    ["changePage", ({ vm }, value) => vm.changePage(value, page)],
    ["changePage to a frame", ({ vm }, value) => vm.changePage(0n, { ...page, pfn: value })],
    ["age", ({ vm }, value) => vm.age(value, 1n << 62n)],
    ["testAge", ({ vm }, value) => vm.testAge(0n, value)],
    ["walk", ({ vcpu }, value) => vcpu.walk(value, 0)],
    ["injectFault", ({ vcpu }, value) => vcpu.injectFault(3, value)],
    ["invlpg", ({ vcpu }, value) => vcpu.invlpg(value)],
    ["invpcid", ({ vcpu }, value) => vcpu.invpcid(2, 0, value)],
    ["invept", ({ vcpu }, value) => vcpu.invept(value)],
    ["emulatedWrite", ({ vcpu }, value) => vcpu.emulatedWrite(value, new Uint8Array(8))],
    ["pageReady", ({ vcpu }, value) => vcpu.pageReady(value)],
    ["writeCr0", ({ vcpu }, value) => vcpu.writeCr0(value)],
    ["writeCr3", ({ vcpu }, value) => vcpu.writeCr3(value)],
    ["writeCr4", ({ vcpu }, value) => vcpu.writeCr4(value)],
    ["writeEfer", ({ vcpu }, value) => vcpu.writeEfer(value)],
  ];

  it.each(uses)("is refused by %s, and nothing has changed", (_, use) => {
    const guest = new Guest();
    guest.mode = "4level";
    const root = guest.table();
    guest.map(root, GVA, 0x20_0000n);
    const vcpu = guest.start("4level", root);
    expect(guest.access(GVA, 2)).toBe("ok");
    const before = [vcpu.registers, guest.vm.pages(), guest.vm.takeFlushes()];
    for (const value of odd) expect(() => use(guest, value as bigint), String(value)).toThrow(ConfigError);
    expect([vcpu.registers, guest.vm.pages()]).toEqual(before.slice(0, 2));
    expect(guest.vm.takeFlushes()).toEqual([]);
    guest.dispose();
  });

  it("but a range may end with the host-virtual addresses", () => {
    const guest = new Guest();
    expect(guest.vm.age(0n, 1n << 64n)).toBe(false);
    guest.vm.unmapRange(0n, 1n << 64n);
    guest.dispose();
  });
});

describe("an array of another kind", () => {
  it("is refused by prefault before anything is mapped", () => {
    const guest = new Guest();
    guest.mode = "4level";
    const root = guest.table();
    guest.map(root, GVA, 0x20_0000n);
    const vcpu = guest.start("4level", root);
    const addresses = BigUint64Array.of(GVA);
    for (const [from, to] of [
      [[GVA], new Uint32Array(1)],
      [addresses, [0]],
      [addresses, new Uint8Array(1)],
      [undefined, new Uint32Array(1)],
    ] as unknown as [BigUint64Array, Uint32Array][]) {
      expect(() => vcpu.prefault(from, to, 2)).toThrow(/expected a BigUint64Array|expected a Uint32Array/);
    }
    expect(() => vcpu.prefault(addresses, new Uint32Array(1), Number.NaN)).toThrow(ConfigError);
    expect(guest.hardware(GVA, 0).ok).toBe(false);
    guest.dispose();
  });
});

describe("a host's answer that is no page", () => {
  it.each<[string, unknown]>([
    ["null", null],
    ["a promise", Promise.resolve({ pfn: 1n, writable: true, level: 1 })],
    ["a frame that is a number", { pfn: 1, writable: true, level: 1 }],
    ["no rights", { pfn: 1n, level: 1 }],
    ["no level", { pfn: 1n, writable: true }],
  ])("%s is refused, and the fault can be made again", (_, answer) => {
    let broken = true;
    const good = { pfn: 0x77n, writable: true, level: 1 };
    const pin = () => (broken ? (answer as HostPage) : good);
    const guest = new Guest({ hostMemory: { pin, peek: () => undefined } });
    guest.mode = "4level";
    const root = guest.table();
    guest.map(root, GVA, 0x20_0000n);
    const vcpu = guest.start("4level", root);
    expect(() => vcpu.pageFault(GVA, 2)).toThrow(ConfigError);
    expect(guest.vm.audit()).toEqual([]);
    broken = false;
    expect(vcpu.pageFault(GVA, 2).result).toBe("fixed");
    guest.dispose();
  });
});
