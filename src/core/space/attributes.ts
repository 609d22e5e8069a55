/** What a full result says of a page besides its rights, where a space's configuration asks for it. */
import { ACCESS, flagOf, Status } from "../../abi/index.js";
import type { AddressSpaceConfig, Fault, Mapped, PagingMode, SpaceConfiguration } from "../../api.js";
import { isShared } from "../attributes/encryption.js";
import { hostTypes, MemoryTypes, type TypedPage } from "../attributes/memory-type.js";
import { isConvertible } from "../attributes/virtualization-exception.js";
import type { WorkRecord } from "../records/walk.js";
import { memoryTypeOf } from "./results.js";

const FETCH = flagOf(ACCESS, "FETCH");

/** A second stage: what it is made of, and the mode that its tables have. */
export interface SecondStageInfo {
  readonly configuration: SpaceConfiguration;
  readonly mode: PagingMode;
}

/** Whether results of a space of this configuration have more to say. */
export function hasAttributes(config: AddressSpaceConfig | undefined): boolean {
  return config?.pat !== undefined || config?.memoryEncryption !== undefined;
}

/** Throws ConfigError for registers of memory types that a processor refuses. */
export function checkAttributes(config: AddressSpaceConfig): void {
  if (config.pat !== undefined || config.mtrrs !== undefined) new MemoryTypes(config, undefined);
}

export class SpaceAttributes {
  #config: AddressSpaceConfig | undefined;
  #made: SpaceConfiguration | undefined;
  #types: MemoryTypes | undefined;

  /**
   * The result that the last walk left in `work`, with what `config`, that of now, makes of the page behind `second`.
   */
  describe(
    mapped: Mapped,
    work: WorkRecord,
    mode: PagingMode,
    access: number,
    config: AddressSpaceConfig,
    second: SecondStageInfo | undefined,
  ): Mapped {
    const made = second?.configuration;
    if (config !== this.#config || made !== this.#made) {
      const host = made?.kind === "npt" ? hostTypes(made.config) : undefined;
      this.#types = config.pat === undefined ? undefined : new MemoryTypes(config, host);
      this.#config = config;
      this.#made = made;
    }
    const paged = work.level !== 0;
    const index = paged ? mapped.memoryType : undefined;
    const type = this.#types?.typeOf({ pa: mapped.pa, index, ...secondLeaf(work, second) });
    const { memoryEncryption } = config;
    const shared =
      memoryEncryption &&
      isShared(memoryEncryption, {
        gpa: mapped.gpa,
        leaf: paged ? work.entry : undefined,
        fetch: (access & FETCH) !== 0,
        wide: mode !== "32bit",
      });
    return {
      ...mapped,
      ...(type === undefined ? {} : { effectiveMemoryType: type }),
      ...(shared === undefined ? {} : { shared }),
    };
  }
}

function secondLeaf(
  { secondEntry, secondLevel }: WorkRecord,
  second: SecondStageInfo | undefined,
): Pick<TypedPage, "second"> {
  if (second === undefined) return {};
  if (second.configuration.kind === "ept") return { second: { ept: secondEntry } };
  return { second: { index: secondLevel === 0 ? undefined : memoryTypeOf(second.mode, secondLevel, secondEntry) } };
}

/** The control "EPT-violation #VE" of a second stage. */
export function makesExceptions(made: SpaceConfiguration): boolean {
  return made.kind === "ept" && made.config.violationExceptions === true;
}

/** Bits of the addresses that EPT of four and five levels translates. */
const [WIDTH_4, WIDTH_5] = [48, 57];

/** The fault, of an EPT violation in tables of this mode with whether it can become an exception. */
export function withConvertible(fault: Fault, mode: PagingMode): Fault {
  if (fault.status !== Status.EptViolation) return fault;
  return { ...fault, convertible: isConvertible(fault, mode === "ept5" ? WIDTH_5 : WIDTH_4) };
}
