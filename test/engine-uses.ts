/** Every method of an engine, of its memories and of its spaces, called with an argument that is up to the caller. */
import type { AddressSpace, GuestMemory, PagingEngine } from "../src/api.js";

export const REGISTERS = { cr0: 0x8001_0001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 };

export interface EngineMachine {
  readonly engine: PagingEngine;
  readonly memory: GuestMemory;
  readonly space: AddressSpace;
}

/** 64 KiB of RAM, whose page at 32 KiB nothing needs, with tables that map the first 2 MiB to the second. */
export function machineOf(engine: PagingEngine): EngineMachine {
  const memory = engine.createMemory({ slots: [{ gpa: 0, size: 1 << 16 }] });
  memory.writeU64(0x1000, 0x2007n);
  memory.writeU64(0x2000, 0x3007n);
  memory.writeU64(0x3000, 0x20_0087n);
  return { engine, memory, space: engine.createAddressSpace(memory, REGISTERS) };
}

export type Use<M> = (machine: M, odd: never) => unknown;

/** By method: a use for each argument. */
export type Uses<M> = Readonly<Record<string, readonly Use<M>[]>>;

/** A use for each of some options. */
function options<M>(names: readonly string[], use: (machine: M, option: object) => unknown): Use<M>[] {
  return names.map((name) => (machine, odd) => use(machine, { [name]: odd }));
}

export const SPARE = 0x8000;
const EPT = { eptp: 0x101en };
const NPT = { ncr3: 0x1000 };

export const ENGINE_USES: Uses<EngineMachine> = {
  createMemory: [
    ({ engine }, odd) => engine.createMemory(odd),
    ({ engine }, odd) => engine.createMemory({ slots: [odd] }),
    ...options<EngineMachine>(["slots", "source"], ({ engine }, option) => engine.createMemory(option)),
    ...options<EngineMachine>(["gpa", "size", "readOnly"], ({ engine }, option) =>
      engine.createMemory({ slots: [{ gpa: 0, size: 4096, ...option }] }),
    ),
  ],
  createAddressSpace: [
    ({ engine }, odd) => engine.createAddressSpace(odd, REGISTERS),
    ({ engine, memory }, odd) => engine.createAddressSpace(memory, odd),
    ({ engine, memory }, odd) => engine.createAddressSpace(memory, { ...REGISTERS, cpu: { la57: odd } }),
    ...options<EngineMachine>(
      [
        "cr0",
        "cr3",
        "cr4",
        "efer",
        "maxPhysAddr",
        "cpu",
        "rules",
        "loadedBy",
        "accessedOnFault",
        "pkru",
        "pkrs",
        "pdptes",
        "pdpteValues",
        "encryptionMask",
        "lenient",
        "tlbEntries",
        "secondStage",
      ],
      ({ engine, memory }, option) => engine.createAddressSpace(memory, { ...REGISTERS, ...option }),
    ),
  ],
  createEpt: [
    ({ engine }, odd) => engine.createEpt(odd, EPT),
    ({ engine, memory }, odd) => engine.createEpt(memory, odd),
    ...options<EngineMachine>(
      ["eptp", "maxPhysAddr", "page1g", "page2m", "executeOnly", "modeBasedExecute", "rules"],
      ({ engine, memory }, option) => engine.createEpt(memory, { ...EPT, ...option }),
    ),
  ],
  createNpt: [
    ({ engine }, odd) => engine.createNpt(odd, NPT),
    ({ engine, memory }, odd) => engine.createNpt(memory, odd),
    ...options<EngineMachine>(
      ["ncr3", "cr0", "cr4", "efer", "maxPhysAddr", "cpu", "encryptionMask", "rules"],
      ({ engine, memory }, option) => engine.createNpt(memory, { ...NPT, ...option }),
    ),
  ],
};

export const MEMORY_USES: Uses<EngineMachine> = {
  read: [({ memory }, odd) => memory.read(odd, 8), ({ memory }, odd) => memory.read(SPARE, odd)],
  write: [({ memory }, odd) => memory.write(odd, new Uint8Array(0)), ({ memory }, odd) => memory.write(SPARE, odd)],
  readU32: [({ memory }, odd) => memory.readU32(odd)],
  readU64: [({ memory }, odd) => memory.readU64(odd)],
  writeU32: [({ memory }, odd) => memory.writeU32(SPARE, odd)],
  writeU64: [({ memory }, odd) => memory.writeU64(SPARE, odd)],
};

export const SPACE_USES: Uses<EngineMachine> = {
  translate: [({ space }, odd) => space.translate(odd), ({ space }, odd) => space.translate(0, odd)],
  walk: [({ space }, odd) => space.walk(odd), ({ space }, odd) => space.walk(0, odd)],
};
