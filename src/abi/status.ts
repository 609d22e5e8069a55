/** Outcomes of a walk. The numbers cross the Wasm boundary. */
import type { BitLayout } from "./bits.js";

/** How a translation ended. */
export const Status = {
  /** Translated. */
  Ok: 0,
  /** #PF: vector 14 with the error code as the CPU pushes it. */
  PageFault: 1,
  /** The linear address is not canonical (4- and 5-level). */
  NonCanonical: 2,
  /** EPT violation: an exit qualification is given. */
  EptViolation: 3,
  /** EPT misconfiguration: no exit qualification. */
  EptMisconfiguration: 4,
  /** #NPF: nested page fault, EXITINFO1 as error code. */
  NestedPageFault: 5,
  /** A table lies where the guest-physical memory has nothing; nothing can be said about the address. */
  OutsideMemory: 6,
  /** A page of a sparse memory has not been read yet; only seen inside the host layer, which reads it and repeats. */
  MissingPage: 7,
  /** Linear-address-space separation (CR4.LASS): the address is in the half of the other mode. */
  SpaceSeparation: 8,
} as const;

export type Status = (typeof Status)[keyof typeof Status];

/** A result of a batch that is no address. */
export const BATCH_RESULT: BitLayout = {
  prefix: "BATCH_RESULT",
  title: "Result of a batch where the translation failed",
  source: "x86-paging",
  fields: [
    { name: "ERROR", low: 0, width: 16, meaning: "low bits of the error code" },
    { name: "STATUS", low: 16, width: 8, meaning: "a Status" },
    { name: "FAULT", low: 63, meaning: "the translation failed" },
  ],
};
