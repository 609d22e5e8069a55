/** The generated accessors of records against the tables that they are generated from. */
import { describe, expect, it } from "vitest";
import { hostRecordFiles } from "../../scripts/generate/host-records.js";
import { offsetsOf, RECORDS } from "../../src/abi/index.js";
import { SHADOW_RECORDS } from "../../src/abi/shadow.js";
import { LinearMemory } from "../../src/core/linear/linear-memory.js";
import * as mmu from "../../src/core/records/mmu.js";
import * as walk from "../../src/core/records/walk.js";

type Accessors = { at: number } & Record<string, unknown>;
type RecordClass = {
  readonly SIZE: number;
  readonly prototype: object;
  new (linear: LinearMemory, at: number): Accessors;
};

const CLASSES: Readonly<Record<string, RecordClass>> = { ...walk, ...mmu } as never;
const BYTES = { u16: 2, u32: 4, u64: 8 } as const;

const camel = (name: string) => name.toLowerCase().replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
const classOf = (prefix: string) => CLASSES[`${camel(`_${prefix}`)}Record`]!;

function fresh() {
  const linear = new LinearMemory(new WebAssembly.Memory({ initial: 1, maximum: 4 }));
  return { linear, at: linear.allocate(8192, 64) };
}

describe.each([...RECORDS, ...SHADOW_RECORDS])("the accessors of $prefix", ({ prefix, fields, ...rest }) => {
  const { offsets, size } = offsetsOf({ prefix, fields, ...rest });
  const Record = classOf(prefix);

  it("know its size", () => {
    expect(Record.SIZE).toBe(size);
  });

  it("read and write each element at its place, and nothing beside it", () => {
    const { linear, at } = fresh();
    const record = new Record(linear, at);
    const wrong: string[] = [];
    for (const { name, type, count = 1 } of fields.filter((field) => field.name !== "PAD")) {
      const member = camel(name);
      const width = BYTES[type];
      const value = BigInt.asUintN(8 * width, 0xf1e2_d3c4_b5a6_9788n);
      const typed = type === "u64" ? value : Number(value);
      const setter = record[`set${member[0]!.toUpperCase()}${member.slice(1)}`] as (i: number, v: unknown) => void;
      for (let index = 0; index < count; index++) {
        const from = at + offsets[name]! + index * width;
        const inside = linear.u8.subarray(from, from + width);
        // What the core alone writes has no setter.
        const set = count === 1 ? Object.getOwnPropertyDescriptor(Record.prototype, member)?.set : setter;
        if (set === undefined) inside.set(Array.from(inside, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn)));
        else if (count === 1) record[member] = typed;
        else setter.call(record, index, typed);
        const read = count === 1 ? record[member] : (record[member] as (i: number) => unknown).call(record, index);
        if (read !== typed) wrong.push(`${name}[${index}] reads ${read}`);
        const found = [...inside].reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
        if (found !== value) wrong.push(`${name}[${index}] is not at ${from - at}`);
        inside.fill(0);
        if (linear.u8.subarray(at, at + size).some((byte) => byte !== 0))
          wrong.push(`${name}[${index}] writes beside it`);
        linear.u8.fill(0, at, at + size);
      }
    }
    expect(wrong).toEqual([]);
  });
});

describe("an accessor", () => {
  it("sees the memory after it has grown", () => {
    const { linear, at } = fresh();
    const record = new mmu.VmRecord(linear, at);
    record.used = 7;
    linear.memory.grow(1);
    expect(record.used).toBe(7);
    record.used = 8;
    expect(new mmu.VmRecord(linear, at).used).toBe(8);
  });

  it("stands for another record where its address is changed", () => {
    const { linear, at } = fresh();
    const page = new mmu.SpRecord(linear, at);
    page.role = 1;
    page.at += mmu.SpRecord.SIZE;
    page.role = 2;
    page.at = at;
    expect(page.role).toBe(1);
  });

  it("cannot have the name of the record's address", () => {
    const [first] = RECORDS[0]!.fields as readonly { name: string }[];
    const { name } = first!;
    first!.name = "AT";
    expect(() => hostRecordFiles("")).toThrow(RangeError);
    first!.name = name;
  });
});
