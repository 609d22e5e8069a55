/** Whether a dump has the bytes of an address, and if not, what is known of them. */

/**
 * `held`: the bytes are there, or are known to be zero. `excluded`: the machine had memory there, and the writer left it
 * out on purpose (a filter): its bytes are unknown. `cut`: the file says that it has them, and it does not (it breaks
 * off, its writer stopped, a part of it was not given). `absent`: the dump says nothing of the address.
 */
export type Presence = "held" | "excluded" | "cut" | "absent";

/** What a dump knows of and does not have. */
export type Lacking = Extract<Presence, "excluded" | "cut">;

/** A range of guest-physical memory. */
export interface MemoryRange {
  readonly gpa: bigint;
  readonly size: bigint;
}

/** Bytes in so many ranges. */
export interface Extent {
  readonly bytes: number;
  readonly ranges: number;
}
