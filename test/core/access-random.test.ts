/** Accesses through random tables, against a model of `translate` and of memory. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type CopyResult, type CoreSpace, loadSync, NO_MEMORY } from "../../src/core/index.js";
import { Access } from "../../src/index.js";
import {
  ALL_FRAMES,
  buildGuest,
  type GuestShape,
  type Leaf,
  type Mode,
  type Stage,
  sameContents,
} from "./access-guest.js";
import { AccessModel } from "./access-model.js";

const core = loadSync();

const leaf = (first: number): fc.Arbitrary<Leaf> =>
  fc.record({
    frame: fc.oneof(
      { weight: 3, arbitrary: fc.integer({ min: first, max: 31 }) },
      { weight: 1, arbitrary: fc.integer({ min: 32, max: 47 }) },
      { weight: 1, arbitrary: fc.integer({ min: 48, max: ALL_FRAMES }) },
    ),
    present: fc.integer({ min: 0, max: 15 }).map((n) => n > 0),
    write: fc.integer({ min: 0, max: 7 }).map((n) => n > 0),
    user: fc.boolean(),
    execute: fc.boolean(),
    used: fc.boolean(),
  });

/** Behind the tables where a TLB may remember what was there. */
const shape: fc.Arbitrary<GuestShape> = fc.boolean().chain((tlb) =>
  fc.record({
    mode: fc.constantFrom<Mode>("none", "32bit", "pae", "4level", "4level", "5level"),
    stage: fc.constantFrom<Stage>("none", "none", "ept", "npt"),
    leaves: fc.array(leaf(tlb ? 16 : 0), { minLength: 32, maxLength: 32 }),
    large: fc.boolean().map((large) => large && !tlb),
    stageLeaves: fc.array(leaf(tlb ? 16 : 0), { minLength: 64, maxLength: 64 }),
    wp: fc.boolean(),
    smap: fc.boolean(),
    tlb: fc.constant(tlb),
  }),
);

const KINDS = ["read", "readInto", "readString", "write", "readValue", "writeValue", "range"] as const;

const operation = fc.record({
  kind: fc.constantFrom(...KINDS),
  page: fc.oneof(fc.integer({ min: -3, max: 40 }), fc.integer({ min: 508, max: 520 })),
  /** Where pages are counted from. */
  base: fc.constantFrom(0n, 0n, 1n << 47n, 0n - (1n << 47n), 1n << 56n, 0x40_0000n, 0x20_0000n),
  /** Mostly close to the end of the page. */
  offset: fc.oneof(
    { weight: 2, arbitrary: fc.integer({ min: 0xff0, max: 0xfff }) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xfff }) },
  ),
  length: fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: 0, max: 40 }) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 9000 }) },
  ),
  size: fc.constantFrom(1, 2, 4, 8),
  value: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  fast: fc.boolean(),
  user: fc.boolean(),
  ac: fc.boolean(),
  fetch: fc.integer({ min: 0, max: 4 }).map((n) => n === 0),
  probe: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
});
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

/** What the operation gives by the access layer and by the model, each in its own guest. */
function run(one: Operation, space: CoreSpace, model: AccessModel): [found: unknown, expected: unknown] {
  const { data } = space;
  const { length, size } = one;
  const writes = one.kind.startsWith("write");
  const access =
    (one.user ? Access.User : 0) |
    (one.ac ? Access.Ac : 0) |
    (one.fetch && !writes ? Access.Fetch : 0) |
    (one.probe ? Access.Probe : 0);
  const address = BigInt.asUintN(model.width, one.base + BigInt(one.page) * 4096n + BigInt(one.offset));
  const filled = Uint8Array.from({ length }, (_, at) => (Number(one.value & 0xffn) + at * 3) & 0xff);
  const value = BigInt.asUintN(size * 8, one.value);
  switch (one.kind) {
    case "read": {
      const { bytes, ...result } = data.read(address, length, access);
      const expected = model.read(address, length, access);
      return [
        { result, bytes: [...bytes] },
        { result: expected.result, bytes: expected.bytes },
      ];
    }
    case "readInto": {
      const into = new Uint8Array(length).fill(0xee);
      const result = data.readInto(address, into, access);
      const expected = model.read(address, length, access);
      const rest = new Array<number>(length - expected.bytes.length).fill(0xee);
      return [
        { result, into: [...into] },
        { result: expected.result, into: [...expected.bytes, ...rest] },
      ];
    }
    case "readString": {
      const { bytes, text, terminated, ...result } = data.readString(address, length, access);
      expect(text).toBe(Buffer.from(bytes).toString("utf8"));
      return [{ result, bytes: [...bytes], terminated }, model.readString(address, length, access)];
    }
    case "write":
      return [data.write(address, filled, access), model.write(address, filled, access)];
    case "readValue":
      return [readValue(space, address, size, access, one.fast), model.readValue(address, size, access)];
    case "writeValue":
      return [
        writeValue(space, address, size, value, access, one.fast),
        model.writeValue(address, size, value, access),
      ];
    case "range":
      return [[...space.translateRange(address, length * 8, access)], model.range(address, BigInt(length * 8), access)];
  }
}

function readValue({ data }: CoreSpace, address: bigint, size: number, access: number, fast: boolean): unknown {
  if (!fast) {
    const result =
      size === 1
        ? data.readU8(address, access)
        : size === 2
          ? data.readU16(address, access)
          : size === 4
            ? data.readU32(address, access)
            : data.readU64(address, access);
    return result.ok ? BigInt(result.value) : result;
  }
  const [high, low] = [Number(address >> 32n), Number(address & 0xffff_ffffn)];
  const lower =
    size === 1
      ? data.fast.readU8(high, low, access)
      : size === 2
        ? data.fast.readU16(high, low, access)
        : size === 4
          ? data.fast.readU32(high, low, access)
          : data.fast.readU64(high, low, access);
  if (lower < 0) return failureOf(data, lower);
  return (size === 8 ? BigInt(data.fast.upperHalf) << 32n : 0n) | BigInt(lower);
}

function writeValue(
  { data }: CoreSpace,
  address: bigint,
  size: number,
  value: bigint,
  access: number,
  fast: boolean,
): unknown {
  if (!fast) {
    if (size === 1) return data.writeU8(address, Number(value), access);
    if (size === 2) return data.writeU16(address, Number(value), access);
    return size === 4 ? data.writeU32(address, Number(value), access) : data.writeU64(address, value, access);
  }
  const [high, low] = [Number(address >> 32n), Number(address & 0xffff_ffffn)];
  const [upper, lower] = [Number(value >> 32n), Number(value & 0xffff_ffffn)];
  const result =
    size === 1
      ? data.fast.writeU8(high, low, lower, access)
      : size === 2
        ? data.fast.writeU16(high, low, lower, access)
        : size === 4
          ? data.fast.writeU32(high, low, lower, access)
          : data.fast.writeU64(high, low, upper, lower, access);
  return result < 0 ? failureOf(data, result) : ({ ok: true, done: size } satisfies CopyResult);
}

/** The details, which agree with what is there without them. */
function failureOf({ fast }: CoreSpace["data"], result: number) {
  const { failure } = fast;
  if (failure?.reason === "fault") {
    expect(-1 - result).toBe((failure.fault.status << 16) | Number(failure.fault.errorCode & 0xffffn));
  } else {
    expect(result).toBe(NO_MEMORY);
    expect(BigInt(fast.failedPa)).toBe(failure!.pa);
  }
  return failure;
}

describe("accesses through random tables", () => {
  const seen = new Map<string, number>();
  const note = (what: string) => seen.set(what, (seen.get(what) ?? 0) + 1);

  it("are what the model says, and leave the same memory", () => {
    const operations = fc.array(operation, { minLength: 1, maxLength: 12 });
    const property = fc.property(shape, operations, (guest, list) => {
      const [real, twin] = [buildGuest(core, guest), buildGuest(core, guest)];
      const width = guest.mode === "4level" || guest.mode === "5level" ? 64 : 32;
      const models = [new AccessModel(twin.memory, twin.space, width), new AccessModel(twin.memory, twin.stage!, 64)];
      try {
        list.forEach((one, index) => {
          // Now and then of guest-physical addresses, by the second stage alone.
          const direct = real.stage !== undefined && index % 3 === 2;
          const [found, expected] = run(one, direct ? real.stage! : real.space, models[direct ? 1 : 0]!);
          expect(found).toEqual(expected);
          expect(sameContents(real.memory, twin.memory)).toBe(true);
          noteResult(one, expected, direct ? guest.stage : `${guest.mode} ${guest.stage}`);
        });
      } finally {
        for (const { memory } of [real, twin]) memory.dispose();
      }
    });
    fc.assert(property, { seed: 11, numRuns: 500 });
  });

  function noteResult(one: Operation, expected: unknown, where: string): void {
    const text = JSON.stringify(expected, (_, value) => (typeof value === "bigint" ? `${value}` : value));
    const outcome = /"reason":"([a-z-]+)"/.exec(text)?.[1] ?? (text.includes('"left"') ? "fault" : "ok");
    note(`${one.kind} ${outcome}`);
    note(`${where} ${outcome}`);
  }

  it("of every kind have succeeded and failed in every way", () => {
    const kinds = KINDS.flatMap((kind) => {
      const outcomes = kind === "range" ? ["ok", "fault"] : ["ok", "fault", "unbacked"];
      return [...outcomes, ...(kind.startsWith("write") ? ["read-only"] : [])].map((outcome) => `${kind} ${outcome}`);
    });
    const stages = ["ept", "npt"].flatMap((kind) => [kind, `4level ${kind}`]);
    const places = ["none none", "32bit none", "pae none", "4level none", "5level none", ...stages];
    const wanted = [...kinds, ...places.flatMap((place) => [`${place} ok`, `${place} unbacked`])];
    expect(wanted.filter((one) => (seen.get(one) ?? 0) < 5)).toEqual([]);
  });
});
