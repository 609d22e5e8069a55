/** Running one scenario through two engines and listing where they differ. */
import type { AddressSpace, GuestMemory, PagingEngine } from "../api.js";
import { PagingError, PdpteLoadError, UnsupportedError } from "../errors.js";
import type { AccessStep, EntryWrite, Scenario } from "./scenario.js";

/** What one engine made of a scenario, in a form that compares by text. */
export interface Outcome {
  /** Name of the error that creating the spaces gave, if any, and the fault that it carries. */
  readonly refused: string | undefined;
  readonly modes: readonly string[];
  readonly translations: readonly string[];
  readonly walks: readonly string[];
  readonly leaves: readonly string[];
  /** Every entry that was placed, as it is afterwards. */
  readonly memory: readonly string[];
}

/** Most leaves that are compared: an odd bit can turn a table into a map of everything. */
const MAX_LEAVES = 600;

/** Differences between what `left` and `right` make of the scenario, one line each; none where they agree. */
export function compareEngines(left: PagingEngine, right: PagingEngine, scenario: Scenario): string[] {
  return compareOutcomes(runScenario(left, scenario), runScenario(right, scenario));
}

/** Differences between two outcomes of one scenario, one line each. */
export function compareOutcomes(a: Outcome, b: Outcome): string[] {
  const lines: string[] = [];
  if (a.refused !== b.refused) lines.push(`creation: ${a.refused ?? "accepted"} / ${b.refused ?? "accepted"}`);
  for (const part of ["modes", "translations", "walks", "leaves", "memory"] as const) {
    const count = Math.max(a[part].length, b[part].length);
    for (let index = 0; index < count; index++) {
      const [x, y] = [a[part][index], b[part][index]];
      if (x !== y) lines.push(`${part}[${index}]: ${x ?? "nothing"} / ${y ?? "nothing"}`);
    }
  }
  return lines;
}

/** A scenario's memory and its spaces, in an engine. */
export interface ScenarioSetup {
  readonly memory: GuestMemory;
  /** Second stage first; fewer where creating one was refused. */
  readonly spaces: readonly AddressSpace[];
  /** Name of the error that creating the spaces gave, if any, and the fault that it carries. */
  readonly refused: string | undefined;
  /** Of the scenario's entries those that lie in its memory. */
  readonly entries: readonly EntryWrite[];
}

/** Sets the scenario up, uses it and disposes of it. */
export function withScenario<T>(engine: PagingEngine, scenario: Scenario, use: (setup: ScenarioSetup) => T): T {
  const memory = engine.createMemory({ slots: scenario.slots });
  const spaces: AddressSpace[] = [];
  try {
    const entries = scenario.entries.filter((entry) => isBacked(scenario, entry.address));
    for (const entry of entries) {
      if (entry.bytes === 4) memory.writeU32(entry.address, Number(entry.value));
      else memory.writeU64(entry.address, entry.value);
    }
    const refused = createSpaces(engine, memory, scenario, spaces);
    return use({ memory, spaces, refused, entries });
  } finally {
    for (const one of spaces) one.dispose?.();
    memory.dispose?.();
  }
}

/** Runs every access of the scenario in order. */
export function runScenario(engine: PagingEngine, scenario: Scenario): Outcome {
  return withScenario(engine, scenario, ({ memory, spaces, refused, entries }) => {
    const space = refused === undefined ? spaces[spaces.length - 1] : undefined;
    const walks = space === undefined ? [] : scenario.accesses.map((step) => walkText(space, step));
    const translations =
      space === undefined
        ? []
        : scenario.accesses.map((step) => answer(() => space.translate(step.address, step.access)));
    return {
      refused,
      modes: spaces.map((one) => one.mode),
      translations,
      walks,
      leaves: space === undefined ? [] : leafTexts(space),
      memory: entries.map((entry) => {
        const value = entry.bytes === 4 ? BigInt(memory.readU32(entry.address)) : memory.readU64(entry.address);
        return `${entry.address.toString(16)}=${value.toString(16)}`;
      }),
    };
  });
}

function isBacked(scenario: Scenario, address: bigint): boolean {
  return scenario.slots.some((slot) => address >= slot.gpa && address + 8n <= slot.gpa + BigInt(slot.size));
}

function createSpaces(
  engine: PagingEngine,
  memory: GuestMemory,
  scenario: Scenario,
  spaces: AddressSpace[],
): string | undefined {
  try {
    const { second, guest } = scenario;
    if (second?.kind === "ept") spaces.push(engine.createEpt(memory, second.config));
    if (second?.kind === "npt") spaces.push(engine.createNpt(memory, second.config));
    if (guest === undefined) return undefined;
    const secondStage = spaces[0];
    spaces.push(engine.createAddressSpace(memory, secondStage === undefined ? guest : { ...guest, secondStage }));
    return undefined;
  } catch (error) {
    if (error instanceof PdpteLoadError) return `${error.name} ${text(error.fault)}`;
    if (error instanceof PagingError) return error.name;
    throw error;
  }
}

function walkText(space: AddressSpace, step: AccessStep): string {
  return answer(() => {
    const { result, steps } = space.walk(step.address, step.access);
    return { result, steps };
  });
}

/** What a call gave, or which error: an address that the mode does not have is refused. */
function answer(call: () => unknown): string {
  try {
    return text(call());
  } catch (error) {
    if (error instanceof PagingError) return error.name;
    throw error;
  }
}

function leafTexts(space: AddressSpace): string[] {
  const texts: string[] = [];
  try {
    for (const leaf of space.leaves()) {
      texts.push(text(leaf));
      if (texts.length === MAX_LEAVES) break;
    }
  } catch (error) {
    // A table outside memory, or a two-stage space: which of them must agree, the wording need not.
    if (!(error instanceof PagingError)) throw error;
    texts.push(error instanceof UnsupportedError ? "unsupported" : error.name);
  }
  return texts;
}

/** JSON with keys in order and bigints in hexadecimal. */
function text(value: unknown): string {
  return JSON.stringify(value, (_key, one) => {
    if (typeof one === "bigint") return `0x${one.toString(16)}`;
    if (typeof one !== "object" || one === null || Array.isArray(one)) return one;
    return Object.fromEntries(Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
