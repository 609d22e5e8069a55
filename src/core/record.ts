/** Reading and writing the fields of a record in linear memory by name. Not for hot paths. */
import { offsetsOf, type RecordLayout } from "../abi/index.js";
import type { LinearMemory } from "./linear-memory.js";

/** A record type: its size and typed access to the fields of one record. */
export class RecordType {
  readonly size: number;
  readonly #fields = new Map<string, { offset: number; type: string }>();

  constructor(readonly layout: RecordLayout) {
    const { offsets, size } = offsetsOf(layout);
    this.size = size;
    for (const field of layout.fields) {
      this.#fields.set(field.name, { offset: offsets[field.name]!, type: field.type });
    }
  }

  /** Offset of a field, in bytes. */
  offset(name: string): number {
    const field = this.#fields.get(name);
    if (field === undefined) throw new RangeError(`${this.layout.prefix} has no field ${name}`);
    return field.offset;
  }

  get32(linear: LinearMemory, record: number, name: string, index = 0): number {
    return linear.u32[(record + this.offset(name)) / 4 + index]!;
  }

  set32(linear: LinearMemory, record: number, name: string, value: number, index = 0): void {
    linear.u32[(record + this.offset(name)) / 4 + index] = value;
  }

  get64(linear: LinearMemory, record: number, name: string, index = 0): bigint {
    return linear.u64[(record + this.offset(name)) / 8 + index]!;
  }

  set64(linear: LinearMemory, record: number, name: string, value: bigint, index = 0): void {
    linear.u64[(record + this.offset(name)) / 8 + index] = value;
  }
}
