/** Outcomes of a walk. The numbers cross the Wasm boundary. */

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
} as const;

export type Status = (typeof Status)[keyof typeof Status];
