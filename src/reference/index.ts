/**
 * The reference: the guest walk in plain TypeScript with BigInt, written from the manuals and independent of the
 * WebAssembly core, which is compared with it. Clear before fast.
 */
import type {
  AddressSpace,
  AddressSpaceConfig,
  EptConfig,
  GuestMemory,
  MemoryConfig,
  NptConfig,
  PagingEngine,
} from "../api.js";
import { checkOptions, isArray, isInstance, show } from "../checks.js";
import { ConfigError } from "../errors.js";
import { EPT_OPTIONS, GUEST_OPTIONS, NPT_OPTIONS, withUnsignedRegisters } from "../options.js";
import { readEptConfig } from "./ept-format.js";
import { EptStage } from "./ept-walk.js";
import { formatOf } from "./formats.js";
import { PhysicalMemory } from "./memory.js";
import { readTypeRegisters } from "./memory-type.js";
import { NptStage, nestedRegisters } from "./npt-stage.js";
import { loadPdptes } from "./pdptes.js";
import { readRegisters } from "./registers.js";
import type { SecondStage } from "./second-stage.js";
import { GuestPhysicalSpace, LinearSpace } from "./spaces.js";
import { configChoice } from "./values.js";

/** A new engine. Its memories and second stages are its own: another engine's are refused with a ConfigError. */
export function createReference(): PagingEngine {
  return new ReferenceEngine();
}

class ReferenceEngine implements PagingEngine {
  readonly #memories = new WeakSet<GuestMemory>();
  readonly #guestPhysical = new WeakMap<AddressSpace, GuestPhysicalSpace>();

  createMemory(config: MemoryConfig): GuestMemory {
    const memory = new PhysicalMemory(config);
    this.#memories.add(memory);
    return memory;
  }

  createAddressSpace(memory: GuestMemory, given: AddressSpaceConfig): AddressSpace {
    const config = withUnsignedRegisters(given);
    checkOptions(config, GUEST_OPTIONS, "the address space's configuration");
    const physical = this.#own(memory);
    const registers = readRegisters(config);
    const secondStage = this.#secondStage(config.secondStage);
    const types = readTypeRegisters(config);
    const pdptes = configChoice(config.pdptes ?? "latched", ["latched", "live"], "pdptes");
    const { pdpteValues } = config;
    if (pdpteValues !== undefined && !(isArray(pdpteValues) && pdpteValues.length === 4)) {
      throw new ConfigError(`pdpteValues is ${show(pdpteValues)}: expected an array of 4`);
    }
    const latched =
      registers.mode === "pae" && pdptes === "latched"
        ? loadPdptes(registers, physical, secondStage, config.pdpteValues)
        : undefined;
    const format = formatOf(registers);
    return new LinearSpace(
      { registers, format, memory: physical, secondStage, latched, stage: "guest", attributes: { types, config } },
      { kind: "guest", config },
    );
  }

  createEpt(memory: GuestMemory, config: EptConfig): AddressSpace {
    checkOptions(config, EPT_OPTIONS, "the EPT configuration");
    const stage = new EptStage(readEptConfig(config), this.#own(memory));
    return this.#register(new GuestPhysicalSpace(stage, { kind: "ept", config }));
  }

  createNpt(memory: GuestMemory, config: NptConfig): AddressSpace {
    checkOptions(config, NPT_OPTIONS, "the NPT configuration");
    const stage = new NptStage(nestedRegisters(config), this.#own(memory), readTypeRegisters(config));
    return this.#register(new GuestPhysicalSpace(stage, { kind: "npt", config }));
  }

  #own(memory: GuestMemory): PhysicalMemory {
    if (!isInstance(memory, PhysicalMemory) || !this.#memories.has(memory)) {
      throw new ConfigError("the memory was made by another engine");
    }
    return memory;
  }

  #register(space: GuestPhysicalSpace): AddressSpace {
    this.#guestPhysical.set(space, space);
    return space;
  }

  #secondStage(space: AddressSpace | undefined): SecondStage | undefined {
    if (space === undefined) return undefined;
    const known = this.#guestPhysical.get(space);
    if (known === undefined) throw new ConfigError("secondStage must be an EPT or NPT space made by this engine");
    return known.stage;
  }
}
