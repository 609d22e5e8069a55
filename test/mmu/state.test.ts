/** Saved states of virtual machines: what is in them, what they go into, and that damage is refused with nothing changed. */
import { describe, expect, it } from "vitest";
import {
  BusyError,
  ConfigError,
  type Core,
  DisposedError,
  loadSync,
  OutOfMemoryError,
  StateError,
} from "../../src/index.js";
import { type MmuTraceEvent, VirtualMachine, type VirtualMachineConfig } from "../../src/mmu/index.js";
import { crc32 } from "../../src/state/format/checksum.js";
import { createMachine, restoreMachine, saveMachine } from "../../src/state/index.js";
import { registersOf } from "./guest.js";

const RAM = 0x40_0000;
const ROOT = 0x10_0000;
const bytesOf = (buffer: ArrayBuffer) => new Uint8Array(buffer);
const CONFIG = { eventCapacity: 2000, nxHugePages: true } satisfies VirtualMachineConfig;
const TDP = { paging: "ept", tdpMmu: true, eventCapacity: 2000 } satisfies VirtualMachineConfig;
const CLASSIC = { paging: "npt", eventCapacity: 2000, rangedFlush: true } satisfies VirtualMachineConfig;
const CONFIGS: readonly (readonly [string, VirtualMachineConfig])[] = [
  ["shadow paging", CONFIG],
  ["the TDP MMU", TDP],
  ["classic direct tables", CLASSIC],
  ["Linux 6.12", { ...CONFIG, kernel: "6.12" }],
];

/** A VM with a guest of four levels that has faulted, written tables and logged. */
function machine(core: Core, config: VirtualMachineConfig): { vm: VirtualMachine; ram: number } {
  const vm = new VirtualMachine(core, config);
  const ram = vm.createRam(RAM);
  vm.setSlot({ id: 0, gpa: 0n, size: RAM, ram, logDirty: true });
  vm.setSlot({ id: 3, gpa: 0x8000_0000n, size: 0x4000, ram, readOnly: true });
  const write = (gpa: number, value: number) => {
    vm.writeGuest(BigInt(gpa), new BigUint64Array([BigInt(value)]));
  };
  for (let level = 0; level < 3; level++) write(ROOT + level * 0x1000, (ROOT + (level + 1) * 0x1000) | 0x27);
  for (let page = 0; page < 64; page++) write(ROOT + 0x3000 + page * 8, (0x20_0000 + page * 0x1000) | 0x67);
  for (let id = 0; id < 2; id++) vm.createVcpu(registersOf("4level", BigInt(ROOT)));
  run(vm, 1);
  return { vm, ram };
}

/** Faults, edits, register writes and the host's doings, the same of each round; what came of it. */
function run(vm: VirtualMachine, round: number): unknown[] {
  const seen: unknown[] = [];
  const events: MmuTraceEvent[] = [];
  vm.events.sink = (event) => events.push(event);
  for (let step = 0; step < 40; step++) {
    const number = step * 7 + round * 13;
    const vcpu = vm.vcpus[number % 2]!;
    vcpu.enterGuest();
    const direct = vm.state.tdp !== undefined;
    const address = BigInt((direct ? 0x20_0000 : 0) + (number % 64) * 0x1000);
    seen.push(vcpu.pageFault(address, number % 3 === 0 ? 2 : 0));
    if (step % 9 === 0) vcpu.emulatedWrite(BigInt(ROOT + 0x3000 + (number % 64) * 8), new BigUint64Array([0x20_5067n]));
    if (step % 11 === 0) vcpu.writeCr3(BigInt(ROOT));
    if (step % 13 === 0) seen.push(vm.getDirtyLog(0), vm.takeFlushes());
    if (step % 17 === 0) vcpu.invlpg(address);
    if (step % 19 === 0)
      vm.unmapRange(vm.state.slots.slots[0]!.hva + 0x20_0000n, vm.state.slots.slots[0]!.hva + 0x20_3000n);
  }
  return [...seen, ...events, vm.counter("PF_TAKEN"), vm.counter("ZAPPED"), vm.stats.hostCalls, vm.audit()];
}

/** Fields of a record that last: none of the fault or walk in progress, and no slot that was found last. */
function numbersOf(record: object): Record<string, unknown> {
  const getters = Object.entries(Object.getOwnPropertyDescriptors(Object.getPrototypeOf(record))).filter(
    ([name, { get }]) => {
      return get !== undefined && !/^(gw|f|req)[A-Z]|^walkCount$/.test(name);
    },
  );
  return Object.fromEntries(getters.map(([name, { get }]) => [name, get!.call(record)]));
}

function forged(state: Uint8Array, changes: readonly (readonly [at: number, byte: number])[]): Uint8Array {
  const copy = state.slice();
  for (const [at, byte] of changes) copy[at] = byte;
  new DataView(copy.buffer).setUint32(28, crc32(copy.subarray(32), crc32(copy.subarray(0, 28))), true);
  return copy;
}

describe.each(CONFIGS)("a saved virtual machine with %s", (_, config) => {
  it("is made again in a new core, and goes on as the old one does", () => {
    const { vm } = machine(loadSync(), config);
    const state = saveMachine(vm, { ram: true });
    const again = createMachine(loadSync(), config, state);
    expect(bytesOf(saveMachine(again, { ram: true }))).toEqual(bytesOf(state));
    expect(again.audit()).toEqual([]);
    expect(again.vcpus.map(({ id, registers }) => ({ id, registers }))).toEqual(
      vm.vcpus.map(({ id, registers }) => ({ id, registers })),
    );
    for (const round of [2, 3]) expect(run(again, round)).toEqual(run(vm, round));
    expect(bytesOf(saveMachine(again, { ram: true }))).toEqual(bytesOf(saveMachine(vm, { ram: true })));
  });

  it("has every field of its records", () => {
    const { vm } = machine(loadSync(), config);
    for (const [index, { pointer }] of vm.allPages().entries()) {
      Object.assign(vm.state.core.pages.header(pointer), { noHuge: index + 1, forbidden: 1, flood: 2, gap: index % 2 });
    }
    const again = createMachine(loadSync(), config, saveMachine(vm, { ram: true }));
    const records = ({ state }: VirtualMachine) => [
      ...state.core.pages.active().map((page) => state.core.pages.header(page)),
      ...(state.tdpMmu?.pages() ?? []).map((page) => state.core.pages.header(page)),
      state.core.vm,
      ...state.cpus.flatMap((cpu) => [cpu.core.record, ...cpu.core.contexts.map(({ mmu }) => mmu)]),
    ];
    const [own, other] = [records(vm), records(again)];
    expect(other.length).toBe(own.length);
    expect(other.map(numbersOf)).toEqual(own.map(numbersOf));
  });

  it("has what is in no record", () => {
    const { vm } = machine(loadSync(), config);
    vm.zapSlotsAlone();
    vm.setPageLimit(77);
    vm.vcpus[0]!.pageFault(0x3000n, 2, { guestFinal: true });
    vm.vcpus[1]!.unprotectAndRetry(0x5000n, { rip: 0x1234n }, true);
    const again = createMachine(loadSync(), config, saveMachine(vm, { ram: true }));
    const rest = ({ state, vcpus, stats }: VirtualMachine) => [
      ...[state.zapsAll, state.requestedPages, state.slots.totalPages, stats, state.pages.caches.stock],
      ...vcpus.map(({ kept }) => kept),
      ...vcpus.flatMap(({ state: cpu }) => [cpu.kept, ...cpu.contexts.map((context) => context.kept)]),
    ];
    expect(rest(again)).toEqual(rest(vm));
    expect([rest(vm)[0], rest(vm)[1]]).toEqual([false, 77]);
    expect(vm.vcpus.map(({ kept }) => [kept.high !== 0n, kept.last !== undefined])).toEqual([
      [true, false],
      [false, true],
    ]);
  });

  it("comes back in the same VM, with the same objects, whatever happened since", () => {
    const core = loadSync();
    const { vm, ram } = machine(core, config);
    const vcpus = [...vm.vcpus];
    const state = saveMachine(vm, { ram: true });
    const first = run(vm, 2);
    const then = bytesOf(saveMachine(vm, { ram: true }));
    vm.createVcpu(registersOf("nopg", 0n));
    vm.setSlot({ id: 3, gpa: 0x8000_0000n, size: 0 });
    restoreMachine(vm, state);
    expect(vm.vcpus).toEqual(vcpus);
    // Where a slot's records lie is a part of the state, and that may be another place now.
    expect(bytesOf(saveMachine(vm, { ram: true })).length).toBe(state.byteLength);
    expect(run(vm, 2)).toEqual(first);
    expect(bytesOf(saveMachine(vm, { ram: true })).length).toBe(then.length);
    vm.dispose();
    expect(() => vcpus[0]!.enterGuest()).toThrow(DisposedError);
    expect(core.internals().linear.keeps(ram, 4096)).toBe(true);
  });

  it("goes on alike where its tables lie elsewhere, addresses apart", () => {
    const { vm } = machine(loadSync(), config);
    const core = loadSync();
    const state = saveMachine(vm, { ram: true });
    // Something lies where the VM's own records were, nothing where RAM was.
    core.createMemory({}).dispose();
    const space = core.createEpt(core.createMemory({}), { eptp: 0x101e });
    const again = createMachine(core, config, state);
    const addresses = /^(sptep|old_spte|new_spte|spte)$/;
    const seen = (results: unknown) =>
      JSON.stringify(results, (name, value) =>
        addresses.test(name) ? 0 : typeof value === "bigint" ? `${value}n` : value,
      );
    expect(seen(run(again, 2))).toBe(seen(run(vm, 2)));
    space.dispose();
  });

  it("gives back everything when it is disposed of, or refused", () => {
    const core = loadSync();
    const { vm } = machine(core, config);
    const state = saveMachine(vm, { ram: true });
    const { linear } = core.internals();
    vm.dispose();
    const free = linear.freeBytes;
    const grown = linear.memory.buffer.byteLength;
    for (let time = 0; time < 3; time++) {
      createMachine(core, config, state).dispose();
      expect(() => createMachine(core, { ...config, guestLa57: false }, state)).toThrow(
        /guestLa57 true, expected false/,
      );
      expect(() => createMachine(core, config, forged(bytesOf(state), [[state.byteLength - 1, 1]]))).toThrow(
        StateError,
      );
    }
    expect(linear.freeBytes - free).toBe(linear.memory.buffer.byteLength - grown);
  });
});

describe("a state of a virtual machine", () => {
  const core = loadSync();
  const { vm } = machine(core, CONFIG);
  const state = bytesOf(saveMachine(vm));
  const refuses = (damaged: Uint8Array | ArrayBuffer, message: string | RegExp = /./) => {
    expect(() => restoreMachine(vm, damaged)).toThrow(StateError);
    expect(() => restoreMachine(vm, damaged)).toThrow(message);
  };

  it("cut at any length, longer, or with any byte changed is refused with nothing changed", () => {
    for (let length = 0; length < state.length; length += length < 200 ? 1 : 97) refuses(state.slice(0, length));
    refuses(Uint8Array.of(...state, 0));
    for (let at = 0; at < state.length; at += at < 64 ? 1 : 1 + (at % 61)) {
      const copy = state.slice();
      copy[at] = copy[at]! ^ (1 << (at % 8));
      refuses(copy);
    }
    expect(bytesOf(saveMachine(vm))).toEqual(state);
  });

  it("of another kernel, rule, configuration or kind is refused with nothing changed", () => {
    const other = (config: VirtualMachineConfig) => saveMachine(machine(loadSync(), config).vm);
    refuses(other({ ...CONFIG, kernel: "6.12" }), "kernel 6.12, expected 6.1");
    refuses(other({ ...CONFIG, kernelRules: { "dummy-root": true } }), /rules \d+, expected/);
    refuses(other({ ...CONFIG, hostPhysicalBits: 40 }), /expected/);
    refuses(other({ ...CONFIG, eventCapacity: 100 }), "eventCapacity 100, expected 2000");
    refuses(other({ ...CONFIG, virtualization: "vmx" }), "virtualization vmx, expected svm");
    refuses(other(TDP));
    for (const [at, what] of [
      [8, "format"],
      [12, "layout"],
      [16, "kind"],
    ] as const) {
      refuses(forged(state, [[at, 0xee]]), what);
    }
    expect(bytesOf(saveMachine(vm))).toEqual(state);
  });

  it("is neither taken nor put in from a callback, or of what is no VM", () => {
    let busy: unknown[] = [];
    const host = {
      peek: () => undefined,
      pin: (hva: bigint) => {
        for (const use of [() => saveMachine(own), () => restoreMachine(own, state)]) {
          try {
            use();
          } catch (error) {
            busy.push(error);
          }
        }
        return { pfn: (1n << 21n) + (hva >> 12n), writable: true, level: 1 };
      },
    };
    const own = new VirtualMachine(loadSync(), { hostMemory: host, eventCapacity: 100 });
    own.setSlot({ id: 0, gpa: 0n, size: 0x10000, ram: own.createRam(0x10000), hva: 0n });
    const vcpu = own.createVcpu(registersOf("nopg", 0n));
    vcpu.enterGuest();
    vcpu.pageFault(0x1000n, 0);
    expect(busy.map((error) => (error as Error).name)).toEqual(["BusyError", "BusyError"]);
    busy = [];
    own.events.sink = () => {
      own.events.sink = undefined;
      expect(() => saveMachine(own)).toThrow(BusyError);
      busy.push(1);
    };
    vcpu.pageFault(0x3000n, 0);
    expect(busy.length).toBeGreaterThan(2);
    for (const wrong of [undefined, {}, 5]) expect(() => saveMachine(wrong as never)).toThrow(ConfigError);
    own.dispose();
    expect(() => saveMachine(own)).toThrow(DisposedError);
    expect(() => restoreMachine(own, state)).toThrow(DisposedError);
  });

  it("has events that the receiver has not taken", () => {
    const own = machine(loadSync(), CONFIG).vm;
    own.events.sink = () => {
      throw new Error("full");
    };
    expect(() => own.vcpus[0]!.pageFault(0x5_0000n, 2)).toThrow("full");
    const saved = saveMachine(own, { ram: true });
    const again = createMachine(loadSync(), CONFIG, saved);
    const events: MmuTraceEvent[][] = [own, again].map((one) => {
      const seen: MmuTraceEvent[] = [];
      one.events.sink = (event) => seen.push(event);
      one.vcpus[0]!.enterGuest();
      return seen;
    });
    expect(events[0]!.length).toBeGreaterThan(0);
    expect(events[1]).toEqual(events[0]);
  });

  it("needs RAM that createRam gave where it was, and room for both", () => {
    const memory = new WebAssembly.Memory({ initial: 200 });
    const small = loadSync(undefined, { memory, region: { base: 0x10000, size: 0x9f_0000 } });
    const own = machine(small, CONFIG).vm;
    const saved = saveMachine(own);
    expect(() => createMachine(small, CONFIG, saved)).toThrow(/RAM at \d+/);
    const { linear } = small.internals();
    linear.allocate(linear.freeBytes - 0x1_0000);
    expect(() => restoreMachine(own, saved)).toThrow(OutOfMemoryError);
    expect(bytesOf(saveMachine(own))).toEqual(bytesOf(saved));
  });

  it("in the host's own RAM has no address of the core's, and needs it to be the host's there", () => {
    const memory = new WebAssembly.Memory({ initial: 400 });
    const region = { base: 0x10000, size: 0x40_0000 };
    const make = (one: WebAssembly.Memory, at = region) => loadSync(undefined, { memory: one, region: at });
    const own = new VirtualMachine(make(memory), CONFIG);
    own.setSlot({ id: 0, gpa: 0n, size: 0x1000, ram: 0x100_0000 });
    const saved = saveMachine(own, { ram: true });
    expect(createMachine(make(new WebAssembly.Memory({ initial: 400 })), CONFIG, saved).audit()).toEqual([]);
    const elsewhere = make(new WebAssembly.Memory({ initial: 400 }), { base: 0xf0_0000, size: 0x40_0000 });
    expect(() => createMachine(elsewhere, CONFIG, saved)).toThrow(StateError);
  });
});

describe("a forged state of a virtual machine", () => {
  /** More of them: FORGED=20000. */
  const FORGED = Number(process.env.FORGED ?? 100);

  it.each(CONFIGS)("is refused with nothing changed, or gives a VM that keeps to itself: %s", (_, config) => {
    const core = loadSync();
    const { vm } = machine(core, config);
    const neighbour = core.createMemory({ slots: [{ gpa: 0, size: 0x10_0000 }] });
    for (let page = 0; page < 256; page++) neighbour.writeU64(page * 4096, BigInt(page) * 0x1234567n);
    const sum = () => crc32(neighbour.read(0, 0x10_0000));
    const wanted = sum();
    const state = bytesOf(saveMachine(vm));
    const random = generator(config.paging === "ept" ? 3 : 5);
    let taken = 0;
    for (let run = 0; run < FORGED; run++) {
      const changes = Array.from({ length: 1 + random(3) }, () => {
        return [32 + random(state.length - 32), [0, 1, 0x7f, 0x80, 0xff, random(256)][random(6)]!] as const;
      });
      const before = crc32(bytesOf(saveMachine(vm)));
      try {
        restoreMachine(vm, forged(state, changes));
      } catch (error) {
        expect(error instanceof StateError || error instanceof OutOfMemoryError ? undefined : error).toBeUndefined();
        expect(crc32(bytesOf(saveMachine(vm)))).toBe(before);
        continue;
      }
      taken++;
      use(vm);
      restoreMachine(vm, state);
    }
    expect(taken).toBeGreaterThan(0);
    expect(sum()).toBe(wanted);
    expect(saveMachine(vm).byteLength).toBe(state.length);
    expect(vm.audit()).toEqual([]);
    vm.dispose();
  });

  /** Whatever it says, it ends. */
  function use(vm: VirtualMachine): void {
    for (const step of [
      () => vm.vcpus[0]?.enterGuest(),
      () => vm.vcpus[0]?.pageFault(0x3000n, 2),
      () => vm.vcpus[1]?.walk(0x3000n, 0),
      () => vm.vcpus[0]?.emulatedWrite(BigInt(ROOT + 0x3000), new Uint8Array(8)),
      () => vm.setPageLimit(64),
      () => vm.unmapRange(0n, 1n << 63n),
      () => vm.recoverHugePages(10),
      () => vm.setSlot({ id: 3, gpa: 0x8000_0000n, size: 0 }),
    ]) {
      try {
        step();
      } catch {
        // Its registers or slots may be what they want.
      }
    }
  }
});

function generator(seed: number): (most: number) => number {
  let state = seed;
  return (most) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % most;
  };
}
