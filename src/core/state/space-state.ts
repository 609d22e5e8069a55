/**
 * An address space in a state: its registers and options, the latched PDPTEs, the settings of registers that it keeps, and its
 * software TLB. What the core derives of them is derived again; a second stage is a state of its own.
 */
import { CODES } from "../../abi/index.js";
import type { AddressSpace, AddressSpaceConfig, GuestMemory, SpaceConfiguration } from "../../api.js";
import { checkOptions, isInstance, show } from "../../checks.js";
import { ConfigError, GeneralProtectionError, StateError, VmEntryError } from "../../errors.js";
import { isPaePaging } from "../../registers/control-registers.js";
import { checkMode } from "../../registers/mode.js";
import { STATE_KIND, seal, unseal } from "../../state/format/envelope.js";
import type { StateReader } from "../../state/format/reader.js";
import { StateWriter } from "../../state/format/writer.js";
import type { Core } from "../core.js";
import { CoreSpace } from "../space/space.js";
import { eptFields, guestFields, nptFields, registersOf, type SpaceFields } from "../space/space-config.js";
import { type KeptModes, MOST_MODES } from "../space/space-registers.js";
import { isTlbSize } from "../space/space-tlb.js";
import { fillTlb, readTlb, type SavedTlb, writeTlb } from "./tlb-state.js";

/** A saved state: a buffer, or a view of one. */
export type State = ArrayBufferLike | ArrayBufferView;

/** What a restored space is given anew. */
export interface CreateSpaceOptions {
  /** Where the saved space had a second stage: the one of now. */
  readonly secondStage?: AddressSpace;
}

const KINDS = ["guest", "ept", "npt"] as const;
type Pdptes = NonNullable<SpaceFields["pdptes"]>;
const PDPTES = 4;

/** What a state has of a space, checked. */
interface SavedSpace {
  readonly configuration: SpaceConfiguration;
  readonly fields: SpaceFields;
  readonly pdptes: Pdptes | undefined;
  readonly kept: KeptModes;
  readonly tlb: SavedTlb | undefined;
}

/**
 * The state of `space` as one buffer. Throws DisposedError, UnsupportedError where its configuration has what is no plain data,
 * ConfigError for a space that is not of this package's core.
 */
export function saveSpace(space: AddressSpace): ArrayBuffer {
  const own = requireSpace(space);
  const { linear, record, registers, second } = own.parts();
  const out = new StateWriter();
  const { kind, config } = own.configuration;
  out.u8(KINDS.indexOf(kind));
  out.flag(second !== undefined);
  out.value(kind === "guest" ? plainConfig(config) : config);
  out.list(own.pdptes ?? [], (pdpte) => out.u64(pdpte));
  const { modes, next } = registers?.kept ?? { modes: [], next: 0 };
  out.list(modes, ({ cr0, cr4, efer }) => {
    for (const register of [cr0, cr4, efer]) out.u32(register);
  });
  out.u32(next);
  if (record.tlb !== 0) writeTlb(out, linear, record);
  return seal(STATE_KIND.space, out);
}

/**
 * `space` becomes what was saved. It has to be of the same kind, with as large a software TLB, and with a second stage where
 * the saved one had one, which stays. Throws StateError for any other state, DisposedError; nothing has changed then.
 */
export function restoreSpace(space: AddressSpace, state: State): void {
  const own = requireSpace(space);
  const { linear, record, registers, second } = own.parts();
  const { config } = own.configuration as { config: AddressSpaceConfig };
  const saved = checked(() => readSpace(unseal(STATE_KIND.space, state), second));
  const { configuration } = saved;
  if (configuration.kind !== own.configuration.kind) {
    throw new StateError(`the state is of a space of kind ${configuration.kind}, expected ${own.configuration.kind}`);
  }
  if (registers !== undefined) {
    const [entries, wanted] = [configuration.config as AddressSpaceConfig, config].map((one) => one.tlbEntries ?? 0);
    if (entries !== wanted) {
      throw new StateError(`the state has a software TLB of ${entries} entries, expected ${wanted}`);
    }
  }
  const fields = saved.pdptes === undefined ? saved.fields : { ...saved.fields, pdptes: saved.pdptes };
  checked(() => {
    own.adopt(configuration, fields, saved.kept, () => {
      if (saved.tlb !== undefined) fillTlb(linear, record, saved.tlb);
    });
  });
}

/**
 * A space like the saved one over `memory`, which is this core's. Throws StateError for what is no state of a space or does not
 * fit, ConfigError and OutOfMemoryError as `createAddressSpace` does; nothing stays allocated then.
 */
export function createSpace(
  core: Core,
  memory: GuestMemory,
  state: State,
  options: CreateSpaceOptions = {},
): CoreSpace {
  checkOptions(options, { secondStage: true }, "the options");
  const { secondStage } = options;
  const { configuration, pdptes } = checked(() => readSpace(unseal(STATE_KIND.space, state), secondStage));
  if (configuration.kind === "ept") return core.createEpt(memory, configuration.config);
  if (configuration.kind === "npt") return core.createNpt(memory, configuration.config);
  // The tables may not be there yet: PDPTEs are those of the state.
  const config = pdptes === undefined ? configuration.config : { ...configuration.config, pdpteValues: pdptes };
  let space: CoreSpace;
  try {
    space = core.createAddressSpace(memory, config);
  } catch (error) {
    if (!(error instanceof GeneralProtectionError)) throw error;
    throw new StateError(`the state has what cannot be: ${error.message}`);
  }
  try {
    restoreSpace(space, state);
  } catch (error) {
    space.dispose();
    throw error;
  }
  return space;
}

/** What checks of configurations and registers refuse is no state that was saved. */
const REFUSALS = [ConfigError, GeneralProtectionError, VmEntryError, RangeError] as const;

function checked<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!REFUSALS.some((one) => error instanceof one)) throw error;
    throw new StateError(`the state has what cannot be: ${(error as Error).message}`);
  }
}

function requireSpace(space: AddressSpace): CoreSpace {
  if (isInstance(space, CoreSpace)) return space;
  throw new ConfigError(`the space is ${show(space)}, expected one of a core of this package`);
}

/** Registers in one form, whichever the caller gave them in; the second stage is not the space's own. */
function plainConfig({ secondStage: _, ...config }: AddressSpaceConfig): AddressSpaceConfig {
  const { cr0, cr3, cr4, efer } = config;
  return { ...config, cr0: BigInt(cr0), cr3: BigInt(cr3), cr4: BigInt(cr4), efer: BigInt(efer) };
}

function readSpace(from: StateReader, secondStage: AddressSpace | undefined): SavedSpace {
  const kind = KINDS[from.u8()];
  if (kind === undefined) throw new StateError("the state is of a space of an unknown kind");
  const staged = from.flag("a second stage");
  if (staged !== (secondStage !== undefined)) {
    throw new StateError(`the state is of a space ${staged ? "with" : "without"} a second stage`);
  }
  const config = from.value() as AddressSpaceConfig;
  const pdptes = from.list(8, () => from.u64(), PDPTES, "PDPTEs");
  const kept = readModes(from);
  if (kind !== "guest") {
    from.end();
    const configuration = { kind, config } as unknown as SpaceConfiguration;
    const fields = configuration.kind === "ept" ? eptFields(configuration.config) : nptFields(config as never);
    return { configuration, fields, pdptes: undefined, kept: { modes: [], next: 0 }, tlb: undefined };
  }
  if (typeof config === "object" && config !== null && "secondStage" in config) {
    throw new StateError("the state has a second stage as an option");
  }
  const fields = guestFields(config);
  const { tlbEntries = 0 } = config;
  if (tlbEntries !== 0 && (staged || !isTlbSize(tlbEntries))) {
    throw new StateError(`the state has ${show(tlbEntries)} as tlbEntries`);
  }
  const tlb = tlbEntries === 0 ? undefined : readTlb(from, tlbEntries);
  from.end();
  const wanted = latches(fields) ? PDPTES : 0;
  if (pdptes.length !== wanted) throw new StateError(`the state has ${pdptes.length} PDPTEs, expected ${wanted}`);
  return {
    configuration: { kind, config: secondStage === undefined ? config : { ...config, secondStage } },
    fields,
    pdptes: pdptes.length === PDPTES ? (pdptes as unknown as Pdptes) : undefined,
    kept,
    tlb,
  };
}

/** PAE paging with PDPTEs in registers. */
function latches(fields: SpaceFields): boolean {
  return (fields.features & CODES.FEATURE_LIVE_PDPTES) === 0 && isPaePaging(registersOf(fields));
}

/** Settings that the space was in before. */
function readModes(from: StateReader): KeptModes {
  const modes = from.list(12, () => ({ cr0: from.u32(), cr4: from.u32(), efer: from.u32() }), MOST_MODES, "modes");
  for (const { cr0, cr4, efer } of modes) {
    checkMode({ cr0: BigInt(cr0), cr4: BigInt(cr4), efer: BigInt(efer) });
  }
  return { modes, next: from.integer(0, MOST_MODES - 1, "a next mode") };
}
