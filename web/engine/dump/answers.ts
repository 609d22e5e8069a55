/** What the dump's worker is asked and what it answers: plain data, which travels between threads. */
import type { DumpFact, DumpRegisters, FoundSpace, InspectedMode, RawOptions } from "x86-paging/dump";
import type { Explanation } from "x86-paging/explain";

export type { FoundSpace, InspectedMode, RawOptions };

/** A processor whose control registers the dump has. */
export interface CpuAnswer {
  readonly number: number;
  readonly origin: string;
  readonly cr3: bigint;
  readonly rip: bigint | undefined;
  readonly cpl: number | undefined;
}

/** What a dump is. */
export interface DumpAnswer {
  /** Tells it from those that were open before. */
  readonly id: number;
  readonly name: string;
  readonly facts: readonly DumpFact[];
  readonly warnings: readonly string[];
  readonly cpus: readonly CpuAnswer[];
  /** Bytes that it holds. */
  readonly held: number;
}

/** Which address space: that of a processor, or of a root. */
export interface SpaceChoice {
  readonly cpu?: number | undefined;
  readonly cr3?: bigint | undefined;
  /** The mode of the root's tables, where it is not that of the dump's registers. */
  readonly mode?: InspectedMode | undefined;
  /** MAXPHYADDR. Default: 52. */
  readonly maxPhysAddr?: number | undefined;
}

export type SpaceMode = InspectedMode | "none";

/** An address space. */
export interface SpaceAnswer {
  readonly id: number;
  /** The dump that it is in. */
  readonly dump: number;
  readonly registers: DumpRegisters;
  readonly mode: SpaceMode;
  readonly title: string;
  /** The root table's address: CR3 without flags. */
  readonly root: bigint;
  /** The root by which user code runs, where this one is the kernel's of such a pair. */
  readonly usersRoot: bigint | undefined;
  /** Where the processor executes, of a space that is a processor's. */
  readonly start: bigint | undefined;
}

/** Rights and kinds that a list is asked for; what is given must all be so. */
export const FILTERS = ["user", "kernel", "write", "execute", "wx", "huge"] as const;
export type Filter = (typeof FILTERS)[number];

export const ORDERS = ["address", "physical", "size"] as const;
export type Order = (typeof ORDERS)[number];

/** How far a list of ranges goes. */
export interface ListAnswer {
  readonly count: number;
  /** Where it begins. */
  readonly from: bigint;
  /** `whole`: to the end of the addresses; `full`: no more are kept; `stopped`: whoever asked ended it. */
  readonly ended: "whole" | "full" | "stopped";
  /** Tables that the dump does not have; what they map is not listed. */
  readonly missingTables: number;
  readonly cyclic: boolean;
  /** Bytes that the ranges map. */
  readonly mapped: number;
}

export interface Row {
  readonly va: bigint;
  readonly pa: bigint;
  readonly size: bigint;
  readonly pageSize: bigint;
  /** ScanRights. */
  readonly rights: number;
  /** Why its bytes are not in the dump, or `held`. */
  readonly presence: string;
  readonly region: string | undefined;
}

/** One table, and what the entries cover. */
export interface TableAnswer {
  readonly path: readonly number[];
  readonly level: number;
  /** Physical address of the table; of a PAE root, of its first entry. */
  readonly address: bigint;
  /** The first virtual address that it translates. */
  readonly va: bigint;
  /** Bytes that one entry stands for. */
  readonly span: bigint;
  /** Undefined where the dump does not have the table: `presence` says why. */
  readonly entries: BigUint64Array | undefined;
  readonly presence: string;
  /** By entry, of what the list has: bytes mapped, rights that some page there has (CELL_*), and the lowest physical page (-1: none). */
  readonly mapped: Float64Array;
  readonly flags: Uint8Array;
  readonly physical: Float64Array;
  /** The highest physical page that the list has, for a scale. */
  readonly highest: number;
}

/** Of a cell's flags: some page there is user-accessible, writable, executable, both of them, user-writable, larger than 4 KiB. */
export const Cell = { User: 1, Write: 2, Execute: 4, WriteExecute: 8, UserWrite: 16, Huge: 32 } as const;

/** A page of 4 KiB by its virtual address. */
export interface PageAnswer {
  readonly va: bigint;
  /** Where it lies; undefined where it is not mapped. */
  readonly pa: bigint | undefined;
  readonly pageSize: number;
  readonly rights: number;
  /** Undefined where there is nothing to show: `why` says it. */
  readonly bytes: Uint8Array | undefined;
  readonly why: string | undefined;
}

export interface Hit {
  readonly va: bigint;
  readonly pageSize: bigint;
  readonly rights: number;
  /** Of a search in all spaces: the root, and how many spaces share the part. */
  readonly root?: bigint;
  readonly shared?: number;
}

export interface FindAnswer {
  readonly pa: bigint;
  readonly hits: readonly Hit[];
  /** There are more. */
  readonly more: boolean;
}

export const ACCESS_KINDS = ["any", "read", "write", "fetch", "shadow-stack-read", "shadow-stack-write"] as const;
export type AccessKind = (typeof ACCESS_KINDS)[number];

/** The second stage of a nested guest. */
export interface SecondStage {
  readonly kind: "ept" | "npt";
  /** EPTP or nCR3. An EPTP without flags is taken as one of 4 levels and write-back tables. */
  readonly root: bigint;
  /** The nested guest's CR3, an address of its own memory. */
  readonly cr3: bigint;
}

export interface WalkQuestion {
  readonly address: bigint;
  /** `any`: one that is allowed wherever something is mapped. */
  readonly access: AccessKind;
  readonly user: boolean;
  /** EFLAGS.AC. */
  readonly ac: boolean;
  /** With the processor's rules of reserved bits and NXE. */
  readonly strict: boolean;
  readonly pkru?: number | undefined;
  readonly pkrs?: number | undefined;
  readonly second?: SecondStage | undefined;
}

export interface WalkAnswer {
  readonly explanation: Explanation;
  readonly mode: SpaceMode;
  readonly pse: boolean;
  /** The second stage's format. */
  readonly secondMode: "ept4" | "ept5" | SpaceMode | undefined;
}
