/** What accesses through an address space give. A guest's fault is a result, never an exception. */
import type { Fault } from "../../api.js";
import type { GuestText } from "../memory/text.js";

/** A byte of the access could not be translated. */
export interface FaultFailure {
  readonly ok: false;
  readonly reason: "fault";
  /** Bytes that were copied, all of them in front of the one that failed; 0 of a write and of a value. */
  readonly done: number;
  /** Linear address of the byte that failed: the access's own, or the first of a page that it reaches into. */
  readonly address: bigint;
  /** What `translate` says of that address. */
  readonly fault: Fault;
}

/**
 * A byte of the access was translated, but what lies there is not for the processor to read or write by itself:
 * "unbacked" is in no slot and no page of the source (a device, or nothing), "read-only" may be read only (a slot that is
 * `readOnly` or a window, a page of the source) and was to be written.
 */
export interface MemoryFailure {
  readonly ok: false;
  readonly reason: "unbacked" | "read-only";
  readonly done: number;
  readonly address: bigint;
  /** Its physical address as the bus gets it: bit 20 is clear where the memory has `a20` false. */
  readonly pa: bigint;
}

/** Why an access by linear address ended early. */
export type AccessFailure = FaultFailure | MemoryFailure;

/** All `done` bytes were copied. */
export interface AccessDone {
  readonly ok: true;
  readonly done: number;
}

/** What a read or write of bytes came to. */
export type CopyResult = AccessDone | AccessFailure;
/** With the bytes that were read: `done` of them. */
export type ReadResult = CopyResult & { readonly bytes: Uint8Array };
/** What a read of one value came to. */
export type ValueResult<T> = { readonly ok: true; readonly value: T } | AccessFailure;
/** With what was read in front of the NUL or of the byte that failed; `terminated` is false then. `done` counts the NUL. */
export type TextResult = CopyResult & GuestText;

/** Physically contiguous bytes. */
export interface RangeRun {
  readonly ok: true;
  /** First linear address. */
  readonly address: bigint;
  /** First physical address, as `translate` gives it. */
  readonly pa: bigint;
  /** Bytes. */
  readonly length: bigint;
}

/** Where a range ends before its time. */
export interface RangeFault {
  readonly ok: false;
  /** The first address that faults. */
  readonly address: bigint;
  /** Bytes from there to the end of the range. */
  readonly left: bigint;
  readonly fault: Fault;
}
