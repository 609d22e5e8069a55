/** EPT: rights, memory types, misconfigurations, mode-based execute control. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/access.js";
import { Status } from "../../src/abi/status.js";
import type { EptConfig } from "../../src/api.js";
import { ConfigError, MemoryRangeError } from "../../src/errors.js";
import {
  EA,
  ED,
  EPT_PD,
  EPT_PDPT,
  EPT_PT,
  EPT_ROOT,
  EPTP,
  EPTP_AD,
  EW,
  engine,
  eptIdentity,
  eptSpace,
  fault,
  mapped,
  PS,
  R,
  RWX,
  ram,
  WB,
  X,
  XU,
} from "./build.js";

const { Read, Write, User, Fetch, Implicit, Probe } = Access;
const bit = (n: number) => 1n << BigInt(n);

function machine(changes: Partial<EptConfig> = {}, edit?: (memory: ReturnType<typeof ram>) => void) {
  const memory = ram();
  eptIdentity(memory);
  edit?.(memory);
  return { memory, space: eptSpace(memory, changes) };
}

/** The outcome of an access to guest-physical 0 whose leaf has these bits: the exit qualification, or "misconfigured". */
function leaf(bits: bigint, access: number, changes: Partial<EptConfig> = {}): string {
  return outcome(machine(changes, (memory) => memory.writeU64(EPT_PT, bits)).space.translate(0, access));
}

function outcome(result: ReturnType<ReturnType<typeof eptSpace>["translate"]>): string {
  if (result.ok) return "ok";
  expect(result).toMatchObject({ vector: undefined, stage: "second" });
  if (result.status === Status.EptMisconfiguration) {
    expect(result.errorCode).toBe(0n);
    return "misconfigured";
  }
  expect(result.status).toBe(Status.EptViolation);
  return result.errorCode.toString(16);
}

describe('SDM "EPT Violations" and their exit qualification', () => {
  it("a missing right is a violation that reports the access and the rights", () => {
    expect(leaf(R, Read)).toBe("ok");
    expect(leaf(R, Write)).toBe("a");
    expect(leaf(R, Fetch)).toBe("c");
    expect(leaf(R | EW, Write)).toBe("ok");
    expect(leaf(R | X, Fetch)).toBe("ok");
    expect(leaf(R | X, Write)).toBe("2a");
    expect(leaf(X, Read)).toBe("21");
    expect(leaf(X, Fetch)).toBe("ok");
  });

  it("rights are ANDed over all entries", () => {
    for (const [table, target] of [
      [EPT_ROOT, EPT_PDPT],
      [EPT_PDPT, EPT_PD],
      [EPT_PD, EPT_PT],
    ] as const) {
      const { space } = machine({}, (memory) => memory.writeU64(table, target | R));
      expect(outcome(space.translate(0, Write))).toBe("a");
      expect(mapped(space.translate(0)).rights).toEqual({
        read: true,
        write: false,
        user: true,
        execute: false,
        userExecute: false,
      });
    }
  });

  it("an entry that is not present leaves no rights, whatever the others grant", () => {
    expect(leaf(~RWX & ((1n << 64n) - 1n), Write)).toBe("2");
    const { space } = machine({}, (memory) => memory.writeU64(EPT_PD + 8n, bit(62)));
    expect(fault(space.translate(0x212345, Fetch))).toMatchObject({
      status: Status.EptViolation,
      errorCode: 4n,
      address: 0x212345n,
      level: 2,
      entryAddress: EPT_PD + 8n,
      entry: bit(62),
    });
  });

  it("addresses wider than the walk are violations that read nothing", () => {
    const { space } = machine();
    for (const address of [bit(48), bit(63)]) {
      expect(space.walk(address, Write)).toMatchObject({
        steps: [],
        result: { status: Status.EptViolation, errorCode: 2n, level: 4, entryAddress: 0n, entry: 0n, address },
      });
    }
  });

  it("a table outside memory is its own status, in KVM a missing entry", () => {
    const edit = (memory: ReturnType<typeof ram>) => memory.writeU64(EPT_PD, 0x800000n | RWX);
    expect(fault(machine({}, edit).space.translate(0x1000))).toMatchObject({
      status: Status.OutsideMemory,
      vector: undefined,
      errorCode: 0n,
      stage: "second",
      level: 1,
      entryAddress: 0x800008n,
    });
    expect(outcome(machine({ rules: "kvm-6.1" }, edit).space.translate(0x1000))).toBe("1");
  });
});

describe('SDM "EPT Misconfigurations"', () => {
  it("write without read", () => {
    expect(leaf(EW, Write)).toBe("misconfigured");
    expect(leaf(EW | X, Fetch)).toBe("misconfigured");
    expect(leaf(EW | X, Fetch, { executeOnly: false })).toBe("misconfigured");
  });

  it("execute-only without the capability, bit 10 included", () => {
    expect(leaf(X, Fetch, { executeOnly: false })).toBe("misconfigured");
    expect(leaf(X | R, Fetch, { executeOnly: false })).toBe("ok");
    expect(leaf(XU, Fetch, { executeOnly: false, modeBasedExecute: true })).toBe("misconfigured");
    expect(leaf(XU, Fetch, { executeOnly: false })).toBe("4");
  });

  it("memory types 2, 3 and 7 of a leaf", () => {
    const types = [0, 1, 2, 3, 4, 5, 6, 7];
    const ok = (make: (type: bigint) => string) => types.filter((type) => make(BigInt(type) << 3n) === "ok");
    expect(ok((type) => leaf(RWX | type, Read))).toEqual([0, 1, 4, 5, 6]);
    expect(
      ok((type) => outcome(machine({}, (memory) => memory.writeU64(EPT_PD, RWX | PS | type)).space.translate(0))),
    ).toEqual([0, 1, 4, 5, 6]);
  });

  /** Bits whose setting in the entry at `table` misconfigures it. */
  function reservedOf(table: bigint, base: bigint, changes: Partial<EptConfig> = {}): number[] {
    const { memory, space } = machine({ maxPhysAddr: 48, ...changes });
    return Array.from({ length: 64 }, (_, n) => n).filter((n) => {
      if ((base & bit(n)) !== 0n) return false;
      memory.writeU64(table, base | bit(n));
      const result = space.translate(0);
      return !result.ok && result.status === Status.EptMisconfiguration && result.entryAddress === table;
    });
  }

  const high = [48, 49, 50, 51];
  const range = (low: number, last: number) => Array.from({ length: last - low + 1 }, (_, n) => low + n);

  it("reserved bits of entries that reference a table", () => {
    expect(reservedOf(EPT_ROOT, EPT_PDPT | RWX)).toEqual([...range(3, 7), ...high]);
    // Bit 7 makes these two large pages, in which the bits of the table's address are reserved.
    expect(reservedOf(EPT_PDPT, EPT_PD | RWX)).toEqual([...range(3, 7), ...high]);
    expect(reservedOf(EPT_PD, EPT_PT | RWX)).toEqual([...range(3, 7), ...high]);
  });

  it("reserved bits of leaves", () => {
    expect(reservedOf(EPT_PDPT, RWX | PS | WB)).toEqual([3, ...range(12, 29), ...high]);
    expect(reservedOf(EPT_PD, RWX | PS | WB)).toEqual([3, ...range(12, 20), ...high]);
    expect(reservedOf(EPT_PT, RWX | WB)).toEqual([3, ...high]);
  });

  it("page sizes that are not supported", () => {
    const set = (table: bigint) => (memory: ReturnType<typeof ram>) => memory.writeU64(table, RWX | PS | WB);
    expect(mapped(machine({}, set(EPT_PDPT)).space.translate(0x12345678)).pa).toBe(0x12345678n);
    expect(mapped(machine({}, set(EPT_PD)).space.translate(0x123456))).toMatchObject({
      pageSize: 1 << 21,
      memoryType: 6,
    });
    expect(outcome(machine({ page1g: false }, set(EPT_PDPT)).space.translate(0))).toBe("misconfigured");
    expect(outcome(machine({ page2m: false }, set(EPT_PD)).space.translate(0))).toBe("misconfigured");
    expect(outcome(machine({}, set(EPT_ROOT)).space.translate(0))).toBe("misconfigured");
  });

  it("comes before the rights of the entries above", () => {
    const { space } = machine({}, (memory) => {
      memory.writeU64(EPT_ROOT, EPT_PDPT | R);
      memory.writeU64(EPT_PT, EW);
    });
    expect(fault(space.translate(0, Write))).toMatchObject({ status: Status.EptMisconfiguration, level: 1, entry: EW });
  });
});

describe("mode-based execute control", () => {
  const on = { modeBasedExecute: true };
  it("bit 10 serves fetches from user-mode addresses, bit 2 those from supervisor-mode ones", () => {
    const chainXu = (memory: ReturnType<typeof ram>, last: bigint) => {
      memory.writeU64(EPT_ROOT, EPT_PDPT | RWX | XU);
      memory.writeU64(EPT_PDPT, EPT_PD | RWX | XU);
      memory.writeU64(EPT_PD, EPT_PT | RWX | XU);
      memory.writeU64(EPT_PT, last);
    };
    const at = (last: bigint, access: number) =>
      outcome(machine(on, (memory) => chainXu(memory, last)).space.translate(0, access));
    expect(at(R | XU, Fetch | User)).toBe("ok");
    expect(at(R | XU, Fetch)).toBe("4c");
    expect(at(R | X, Fetch)).toBe("ok");
    expect(at(R | X, Fetch | User)).toBe("2c");
    expect(at(R | XU, Fetch | User | Implicit)).toBe("4c");
    expect(at(XU, Fetch | User)).toBe("ok");
    expect(at(XU, Read)).toBe("41");
    expect(mapped(machine(on, (memory) => chainXu(memory, R | XU)).space.translate(0)).rights).toMatchObject({
      execute: false,
      userExecute: true,
    });
  });

  it("bit 10 alone makes an entry present", () => {
    expect(leaf(XU, Read, on)).toBe("1");
    expect(fault(machine(on, (memory) => memory.writeU64(EPT_PT, XU | bit(51))).space.translate(0)).status).toBe(
      Status.EptViolation,
    );
    const strict = { ...on, maxPhysAddr: 50 };
    expect(leaf(XU | bit(51), Read, strict)).toBe("misconfigured");
    expect(leaf(XU | bit(51), Read, { maxPhysAddr: 50 })).toBe("1");
  });

  it("without it bit 10 says nothing", () => {
    expect(leaf(R | XU, Fetch | User)).toBe("c");
    expect(leaf(R | X, Fetch | User)).toBe("ok");
  });
});

describe('SDM "Accessed and Dirty Flags for EPT"', () => {
  const tables = [EPT_ROOT, EPT_PDPT, EPT_PD, EPT_PT];
  it.each([
    ["a read", Read, [EA, EA, EA, EA]],
    ["a write", Write, [EA, EA, EA, EA | ED]],
    ["a probe", Write | Probe, [0n, 0n, 0n, 0n]],
  ])("are set by %s when EPTP enables them", (_name, access, expected) => {
    for (const [eptp, flags] of [
      [EPTP_AD, expected],
      [EPTP, [0n, 0n, 0n, 0n]],
    ] as const) {
      const { memory, space } = machine({ eptp });
      mapped(space.translate(0, access));
      expect(tables.map((table) => memory.readU64(table) & (EA | ED))).toEqual(flags);
    }
  });

  it("stay as they are on a violation", () => {
    const { memory, space } = machine({ eptp: EPTP_AD }, (ram) => ram.writeU64(EPT_PT, R));
    expect(space.translate(0, Write).ok).toBe(false);
    expect(tables.map((table) => memory.readU64(table) & (EA | ED))).toEqual([0n, 0n, 0n, 0n]);
  });
});

describe("an EPT space", () => {
  it("of five levels has a wider reach", () => {
    const memory = ram();
    eptIdentity(memory);
    memory.writeU64(0x14000, EPT_ROOT | RWX);
    memory.writeU64(0x14008, EPT_ROOT | RWX);
    const space = engine.createEpt(memory, { eptp: 0x14000n | (4n << 3n) | 6n });
    expect([space.mode, eptSpace(memory).mode]).toEqual(["ept5", "ept4"]);
    expect(mapped(space.translate(bit(48) | 0x5123n))).toMatchObject({ pa: 0x5123n, gpa: 0x5123n });
    expect(fault(space.translate(bit(57)))).toMatchObject({ level: 5, entryAddress: 0n });
  });

  it("lists its leaves without the misconfigured ones", () => {
    const { space } = machine({}, (memory) => {
      memory.writeU64(EPT_PT + 8n, EW);
      memory.writeU64(EPT_PD + 8n, RWX | PS | WB);
      memory.writeU64(EPT_ROOT + 8n * 256n, EPT_PDPT | R);
    });
    const leaves = [...space.leaves()];
    expect(leaves).toHaveLength(2 * 256);
    expect(leaves.slice(0, 2).map((found) => found.va)).toEqual([0n, 0x2000n]);
    expect(leaves[256]).toMatchObject({ va: bit(47), rights: { read: true, write: false } });
    const broken = machine({}, (memory) => memory.writeU64(EPT_ROOT, 0x800000n | R)).space;
    expect(() => [...broken.leaves()]).toThrow(MemoryRangeError);
  });

  it.each([
    ["walk length 3", (2n << 3n) | 6n],
    ["walk length 6", (5n << 3n) | 6n],
    ["memory type 1", (3n << 3n) | 1n],
    ["memory type 7", (3n << 3n) | 7n],
    ["an address beyond MAXPHYADDR", EPTP | bit(52)],
  ])("is refused with %s", (_name, eptp) => {
    expect(() => eptSpace(ram(), { eptp })).toThrow(ConfigError);
  });
});
