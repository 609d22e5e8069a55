/** Strings of a guest: bytes that a NUL ends. */

/** What was read of a string. */
export interface GuestText {
  /** The bytes in front of the NUL as UTF-8; what is none is shown as U+FFFD. */
  readonly text: string;
  /** The bytes themselves, without the NUL. */
  readonly bytes: Uint8Array;
  /** Whether the NUL was found. */
  readonly terminated: boolean;
}

/** `bytes` up to a NUL, or all of them. */
export function textOf(bytes: Uint8Array): GuestText {
  const end = bytes.indexOf(0);
  const kept = end === -1 ? bytes : bytes.slice(0, end);
  return { text: new TextDecoder("utf-8", { ignoreBOM: true }).decode(kept), bytes: kept, terminated: end !== -1 };
}
