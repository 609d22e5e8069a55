/**
 * Every kind of machine that random guests run in, as a property: how a sequence of operations is drawn, and what runs it.
 * The tests run them all (run-of.ts), `x86-paging fuzz --vm` for as long as it is told.
 */
import fc from "fast-check";
import type { Kernel } from "../../../src/abi/kernel-rules.js";
import { core } from "../guest.js";
import { countAllocated } from "./allocated.js";
import { DirectMachine } from "./direct-machine.js";
import { KINDS, type MachineKind } from "./kinds.js";
import { LAYOUTS, LayoutMachine } from "./layout-machine.js";
import { NestedMachine } from "./nested-machine.js";
import type { SecondFormat } from "./nested-tables.js";
import { OPERATIONS, runMachine } from "./run-machine.js";
import { ShadowMachine } from "./shadow-machine.js";

export type GuestGroup = "shadow" | "direct" | "layout" | "nested";

/** A machine, and one sequence of operations on it. */
export interface GuestProperty {
  readonly group: GuestGroup;
  /** Unique among all: the group, then the kind of host. */
  readonly name: string;
  /** The property, of kernels that are drawn from `kernels`; it throws where a rule is broken. */
  over(kernels: readonly Kernel[]): fc.IPropertyWithHooks<[unknown]>;
}

function property<T>(
  group: GuestGroup,
  name: string,
  draw: (kernel: fc.Arbitrary<Kernel>) => fc.Arbitrary<T>,
  run: (sequence: T) => void,
): GuestProperty {
  const over = (kernels: readonly Kernel[]) => {
    return fc.property(draw(fc.constantFrom(...kernels)), run) as unknown as fc.IPropertyWithHooks<[unknown]>;
  };
  return { group, name, over };
}

const atMost = { minLength: 1, maxLength: OPERATIONS, size: "max" } as const;
const wideSteps = fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.nat()), atMost);
const manualDirtyLog = fc.constantFrom(0 as const, 1 as const, 3 as const);

/** Guests under shadow paging, nested ones among them. */
const SHADOW = property(
  "shadow",
  "shadow paging",
  (kernel) =>
    fc.record({
      kind: fc.record({
        kernel,
        mode: fc.constantFrom("nopg" as const, "32" as const, "pae" as const, "4level" as const, "5level" as const),
        minimumRootLevel: fc.constantFrom(3 as const, 4 as const, 5 as const),
        wp: fc.boolean(),
        defaultPaePdpte: fc.boolean(),
        encrypted: fc.boolean(),
        nxHugePages: fc.boolean(),
        virtualization: fc.constantFrom("svm" as const, "vmx" as const),
        manualDirtyLog,
      }),
      steps: wideSteps,
    }),
  ({ kind, steps }) => {
    const machine = new ShadowMachine(kind);
    machine.check(true);
    runMachine(machine, machine.guest.vm, steps);
  },
);

/** Guests of one kind of direct tables. */
function direct(kind: MachineKind, tdpMmu: boolean): GuestProperty {
  return property(
    "direct",
    `${kind.name}, ${tdpMmu ? "TDP MMU" : "classic direct MMU"}`,
    (kernel) =>
      fc.record({
        kernel,
        manualDirtyLog,
        steps: fc.array(fc.tuple(fc.nat(99), fc.nat(255), fc.nat(65535)), atMost),
      }),
    ({ kernel, manualDirtyLog: log, steps }) => {
      const machine = new DirectMachine(kind, tdpMmu, log, kernel);
      runMachine(machine, machine.vm, steps);
    },
  );
}

/** Guests with a PC's memory: many slots in one block, host pages of every size. They give back what they took. */
function layout(machine: MachineKind): GuestProperty {
  return property(
    "layout",
    `a PC's memory on ${machine.name}`,
    (kernel) =>
      fc.record({
        kind: fc.record({
          kernel,
          tdpMmu: machine.level > 3 ? fc.boolean() : fc.constant(false),
          layout: fc.nat(LAYOUTS.length - 1),
          manualDirtyLog,
          rangedFlush: fc.boolean(),
          maxHugeLevel: fc.constantFrom(1 as const, 2 as const, 3 as const, 3 as const),
          mmioCaching: fc.boolean(),
        }),
        steps: fc.array(fc.tuple(fc.nat(99), fc.nat(1023), fc.nat(65535)), atMost),
      }),
    ({ kind, steps }) => {
      const counter = countAllocated(core().internals());
      const world = new LayoutMachine(machine, kind);
      try {
        runMachine(world, world.vm, steps);
      } finally {
        counter.undo();
      }
      if (counter.bytes !== 0) throw new Error(`${counter.bytes} bytes are still allocated`);
    },
  );
}

/** L1's second stage can have at most the levels of the host's. */
function formatsOf({ format, level }: MachineKind): readonly SecondFormat[] {
  if (format.kind === "ept") return level === 5 ? ["ept4", "ept5"] : ["ept4"];
  return (["32", "pae", "4level", "5level"] as const).slice(0, level - 1);
}

/** L1 hypervisors and their nested guests. */
function nested(machine: MachineKind): GuestProperty {
  return property(
    "nested",
    `a nested guest on ${machine.name}`,
    (kernel) =>
      fc.tuple(
        fc.record({
          kernel,
          tdpMmu: machine.level === 3 ? fc.constant(false) : fc.boolean(),
          format: fc.constantFrom(...formatsOf(machine)),
          pse: fc.boolean(),
          accessedDirty: machine.accessedDirty ? fc.boolean() : fc.constant(false),
          l2Mode: fc.constantFrom("nopg" as const, "32" as const, "pae" as const, "4level" as const),
          manualDirtyLog,
        }),
        wideSteps,
      ),
    ([kind, steps]) => {
      const world = new NestedMachine(machine, kind);
      runMachine(world, world.guest.vm, steps);
    },
  );
}

// Stolen bits are the direct guests' own.
const plain = KINDS.filter(({ aliasMask }) => aliasMask === 0n);

export const GUEST_PROPERTIES: readonly GuestProperty[] = [
  SHADOW,
  // A 32-bit host has no TDP MMU.
  ...KINDS.flatMap((kind) => (kind.level === 3 ? [false] : [false, true]).map((tdpMmu) => direct(kind, tdpMmu))),
  ...plain.map(layout),
  ...plain.map(nested),
];
