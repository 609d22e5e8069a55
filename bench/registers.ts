/** What an emulator's guest does beside accesses: register writes, invalidations, page-table isolation. */
import type { CoreSpace } from "../src/core/index.js";
import { build, type Machine } from "./machine.js";
import { attachNative, type Native } from "./native.js";
import type { Section } from "./report.js";
import { type Candidate, compare, type RoundOptions } from "./rounds.js";

/** Operations in a run. */
const WORK = 256;
const PCIDE = 0x20020n;
const PKE = 0x40_0000n;
const NO_FLUSH = 1n << 63n;
const SUPERVISOR_READ = 0;
/** Pages that a guest touches between two switches of its tables. */
const TOUCHED = 12;

/** Where results go, so that nothing is left out. */
const sink = new Float64Array(1);

/** Guests of their own for each candidate: nothing that one leaves behind is another's. */
interface Guest {
  readonly machine: Machine;
  readonly space: CoreSpace;
  readonly root: bigint;
}

function guestWith(tlbEntries: number, cr4: bigint): Guest {
  const machine = build({ tables: 4, regions: 1 }, { ...(tlbEntries ? { tlbEntries } : {}), spare: 1 << 20 });
  const { space } = machine;
  const { config } = space.configuration as { config: { cr3: bigint | number } };
  const root = BigInt(config.cr3);
  space.update({ cr4: cr4 | 0x20n });
  return { machine, space, root };
}

function accesses({ machine, space }: Guest): Candidate {
  const lows = Uint32Array.from({ length: WORK }, (_, i) => Number(machine.page((i * 7) % 512)) << 12);
  const run = () => {
    let sum = 0;
    for (let i = 0; i < WORK; i++) sum += space.translateFast(0, lows[i]!, SUPERVISOR_READ);
    sink[0] = sum;
  };
  return { name: "translateFast, no TLB", work: WORK, run };
}

function repeated(name: string, action: (i: number) => void): Candidate {
  return {
    name,
    work: WORK,
    run: () => {
      for (let i = 0; i < WORK; i++) action(i);
    },
  };
}

/** What a host's own TLB asks at each of its misses: addresses one page after the other, from `first` on. */
function lines(name: string, { space }: Guest, first: number): Candidate {
  return repeated(name, (i) => space.translateLine(0, first + i * 4096, SUPERVISOR_READ));
}

/** Two address spaces of a guest with page-table isolation, switched without a flush, a few pages touched in each. */
function isolated(name: string, { machine, space, root }: Guest): Candidate {
  const roots = [root | 1n | NO_FLUSH, root | 2n | NO_FLUSH];
  const lows = Uint32Array.from({ length: TOUCHED }, (_, i) => Number(machine.page(i * 37)) << 12);
  const run = () => {
    let sum = 0;
    for (let i = 0; i < WORK; i++) {
      space.writeCr3(roots[i & 1]!);
      for (let page = 0; page < TOUCHED; page++) sum += space.translateFast(0, lows[page]!, SUPERVISOR_READ);
    }
    sink[0] = sum;
  };
  return { name, work: WORK, run };
}

/** What bench/native/walk.c does for `operation`, by number: with a TLB of 1,024 that flushes by generation. */
const NATIVE_OPERATIONS = [
  "writeCr3 that flushes",
  "writeCr3 that keeps",
  "INVLPG",
  "PKRU",
  "a walk with its TLB entry",
  "a fault",
  "a read of 32 bits across two pages",
];

/** The same in C, called in C: 32 times as many, so that the one call from here does not count. */
function inNative(native: Native, { machine, root }: Guest): Candidate[] {
  attachNative(native, machine);
  const work = WORK * 32;
  return NATIVE_OPERATIONS.map((name, number) => ({
    name: `native C: ${name}`,
    work,
    run: () => native.operation(number, work, Number(root)),
  }));
}

export function measureRegisters(native: Native | undefined, options: RoundOptions): Section[] {
  const guests = new Map<string, Guest>();
  const guest = (tlbEntries: number, cr4: bigint) => {
    const key = `${tlbEntries} ${cr4}`;
    const known = guests.get(key) ?? guestWith(tlbEntries, cr4);
    guests.set(key, known);
    return known;
  };
  const plain = guest(0, 0n);
  const small = guest(1024, 0n);
  const large = guest(65536, 0n);
  const tagged = guest(1024, PCIDE);
  const keyed = guest(1024, PKE);
  const { space } = small;
  const writes = [
    accesses(plain),
    repeated("writeCr3, no TLB", () => plain.space.writeCr3(plain.root)),
    repeated("writeCr3 as a number", () => small.space.writeCr3(Number(small.root))),
    repeated("writeCr3 that flushes, TLB of 1,024", () => small.space.writeCr3(small.root)),
    repeated("writeCr3 that flushes, TLB of 65,536", () => large.space.writeCr3(large.root)),
    repeated("writeCr3 that keeps, two PCIDs", (i) =>
      tagged.space.writeCr3(tagged.root | BigInt(1 + (i & 1)) | NO_FLUSH),
    ),
    repeated("PKRU", (i) => keyed.space.setPkru(0x5555_5554 ^ ((i & 1) << 4))),
    lines("a line for a host's own TLB", plain, 0x1000),
    lines("a fault, with its line", plain, 0x8000_0000),
    repeated("CR0.WP", (i) => space.update({ cr0: 0x8000_0001 + ((i & 1) << 16) })),
    repeated("CR4.PGE, which flushes", (i) => space.update({ cr4: 0x20 | ((i & 1) << 7) })),
    repeated("INVLPG", (i) => space.invlpg(i << 12)),
    repeated("a read of 32 bits across two pages", (i) => plain.space.data.fast.readU32(0, (i << 12) + 0xffe, 0)),
    ...(native === undefined ? [] : inNative(native, plain)),
  ];
  const isolation = [isolated("without a TLB", guest(0, PCIDE)), isolated("with a TLB of 1,024", tagged)];
  const sections = [
    {
      title: "An emulator's day: registers, invalidations, TLB fills",
      unit: "operation",
      results: compare(writes, options),
    },
    {
      title: `An emulator's day: page-table isolation, a switch and ${TOUCHED} accesses`,
      unit: "switch",
      results: compare(isolation, options),
    },
  ];
  for (const { machine } of guests.values()) machine.dispose();
  return sections;
}
