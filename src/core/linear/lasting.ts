/** Arrays of callers that outlive a growing memory. */
import type { LinearMemory } from "./linear-memory.js";

/**
 * Gives `array` again and again: anew where it lies in linear memory, because growing that empties every view of it. Ask
 * before anything is allocated.
 */
export function lasting<T extends BigUint64Array | Uint32Array>(array: T, linear: LinearMemory): () => T {
  const { buffer, byteOffset, length } = array;
  if (buffer !== linear.memory.buffer) return () => array;
  const View = array.constructor as new (buffer: ArrayBufferLike, byteOffset: number, length: number) => T;
  return () => new View(linear.memory.buffer, byteOffset, length);
}

/** The same of bytes, whatever class the array has. */
export function lastingBytes(array: Uint8Array, linear: LinearMemory): () => Uint8Array {
  const { buffer, byteOffset, length } = array;
  if (buffer !== linear.memory.buffer) return () => array;
  return () => new Uint8Array(linear.memory.buffer, byteOffset, length);
}
