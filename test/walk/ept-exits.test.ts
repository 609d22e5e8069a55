/** What EPT violations tell: advanced VM-exit information, and whether they can become virtualization exceptions. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/access.js";
import { Status } from "../../src/abi/status.js";
import type { AddressSpaceConfig, EptConfig, Fault } from "../../src/api.js";
import {
  CR0,
  chain,
  EPT_PD,
  EPTP,
  engine,
  eptIdentity,
  eptLeafOf,
  eptSpace,
  fault,
  longMode,
  P,
  PAGE,
  PD,
  PT,
  R,
  ram,
  U,
  W,
  XD,
} from "./build.js";

const { Read, Write, Fetch, User, Ac } = Access;
const FINAL = 0x180n;
const [USER, WRITABLE, NX] = [1n << 9n, 1n << 10n, 1n << 11n];
const SUPPRESS = 1n << 63n;
type Ram = ReturnType<typeof ram>;

/** The violation of an access to linear address 0, whose guest leaf has `leaf`, and whose EPT leaf is gone. */
function violation(
  access: number,
  leaf: bigint,
  config: Partial<EptConfig>,
  edit: (memory: Ram) => void = (memory) => memory.writeU64(eptLeafOf(PAGE), 0n),
  changes: Partial<AddressSpaceConfig> = {},
): Fault {
  const memory = ram();
  chain(memory);
  memory.writeU64(PT, PAGE | P | leaf);
  eptIdentity(memory);
  edit(memory);
  const space = engine.createAddressSpace(memory, longMode({ secondStage: eptSpace(memory, config), ...changes }));
  const found = fault(space.translate(0, access));
  expect(fault(space.walk(0, access).result)).toEqual(found);
  expect(found.status).toBe(Status.EptViolation);
  return found;
}

describe('SDM "Exit Qualification for EPT Violations": advanced VM-exit information', () => {
  const advanced = { advancedExitInformation: true };

  it("tells what the guest's paging allows", () => {
    expect(violation(Read, 0n, advanced).errorCode).toBe(FINAL | 1n);
    expect(violation(Read, U, advanced).errorCode).toBe(FINAL | 1n | USER);
    expect(violation(Read, W, advanced).errorCode).toBe(FINAL | 1n | WRITABLE);
    expect(violation(Read, XD, advanced).errorCode).toBe(FINAL | 1n | NX);
    expect(violation(Write | User, U | W | XD, advanced).errorCode).toBe(FINAL | 2n | USER | WRITABLE | NX);
    expect(violation(Fetch, W, advanced).errorCode).toBe(FINAL | 4n | WRITABLE);
  });

  it("goes by all entries of the guest, and by EFER.NXE", () => {
    const above = (bits: bigint) => (memory: Ram) => {
      memory.writeU64(PD, PT | bits);
      memory.writeU64(eptLeafOf(PAGE), 0n);
    };
    expect(violation(Read, U | W, advanced, above(P)).errorCode).toBe(FINAL | 1n);
    expect(violation(Read, U | W, advanced, above(P | W | U | XD)).errorCode).toBe(FINAL | 1n | USER | WRITABLE | NX);
  });

  it("has all rights without paging", () => {
    const off = { cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n };
    const memory = ram();
    eptIdentity(memory);
    memory.writeU64(eptLeafOf(0n), 0n);
    const space = engine.createAddressSpace(memory, { ...off, secondStage: eptSpace(memory, advanced) });
    expect(fault(space.translate(0, Write)).errorCode).toBe(FINAL | 2n | USER | WRITABLE);
  });

  it("says nothing of accesses to guest tables, nor of a guest-physical address given directly", () => {
    const gone = (memory: Ram) => memory.writeU64(eptLeafOf(PT), 0n);
    expect(violation(Read, U | W, advanced, gone).errorCode).toBe(0x81n);
    const memory = ram();
    eptIdentity(memory);
    memory.writeU64(eptLeafOf(0n), 0n);
    expect(fault(eptSpace(memory, advanced).translate(0)).errorCode).toBe(1n);
  });

  it("is of the translation, not of one before", () => {
    const memory = ram();
    chain(memory);
    eptIdentity(memory);
    memory.writeU64(PT + 8n, 0x6000n | P | XD);
    for (const page of [PAGE, 0x6000n]) memory.writeU64(eptLeafOf(page), 0n);
    const space = engine.createAddressSpace(memory, longMode({ secondStage: eptSpace(memory, advanced) }));
    for (const _ of [1, 2]) {
      expect(fault(space.translate(0)).errorCode).toBe(FINAL | 1n | USER | WRITABLE);
      expect(fault(space.translate(0x1000, Ac)).errorCode).toBe(FINAL | 1n | NX);
    }
  });

  it("is off by default, and in the rules kvm-6.1", () => {
    expect(violation(Read, U | W, {}).errorCode).toBe(FINAL | 1n);
    expect(violation(Read, U | W, { ...advanced, rules: "kvm-6.1" }).errorCode).toBe(FINAL | 1n);
  });
});

describe('SDM "Convertible EPT Violations"', () => {
  const exceptions = { violationExceptions: true };

  it("have bit 63 clear in the entry that is not present, or maps the page", () => {
    const leaf = (entry: bigint) => (memory: Ram) => memory.writeU64(eptLeafOf(PAGE), entry);
    expect(violation(Read, U | W, exceptions, leaf(0n)).convertible).toBe(true);
    expect(violation(Read, U | W, exceptions, leaf(SUPPRESS)).convertible).toBe(false);
    expect(violation(Write, U | W, exceptions, leaf(PAGE | R | 0x30n)).convertible).toBe(true);
    expect(violation(Write, U | W, exceptions, leaf(PAGE | R | 0x30n | SUPPRESS)).convertible).toBe(false);
    const table = (entry: bigint) => (memory: Ram) => memory.writeU64(EPT_PD, entry);
    expect(violation(Read, U | W, exceptions, table(0n)).convertible).toBe(true);
    expect(violation(Read, U | W, exceptions, table(SUPPRESS)).convertible).toBe(false);
    // In an entry that leads to a table the bit says nothing.
    const above = (memory: Ram) => {
      memory.writeU64(EPT_PD, memory.readU64(EPT_PD) | SUPPRESS);
      memory.writeU64(eptLeafOf(PAGE), 0n);
    };
    expect(violation(Read, U | W, exceptions, above).convertible).toBe(true);
  });

  it("are violations of guest tables, and of setting their flags, too", () => {
    const table = (entry: bigint) => (memory: Ram) => memory.writeU64(eptLeafOf(PT), entry);
    expect(violation(Read, U | W, exceptions, table(SUPPRESS)).convertible).toBe(false);
    expect(violation(Read, U | W, exceptions, table(PT | R | 0x30n)).convertible).toBe(true);
    expect(violation(Read, U | W, exceptions, table(PT | R | 0x30n | SUPPRESS)).convertible).toBe(false);
  });

  it("are none where EPT does not translate the address, and no other faults", () => {
    const memory = ram();
    eptIdentity(memory);
    const space = eptSpace(memory, exceptions);
    expect(fault(space.translate(1n << 48n))).toMatchObject({ status: Status.EptViolation, convertible: false });
    memory.writeU64(eptLeafOf(0n), 2n);
    expect(fault(space.translate(0))).not.toHaveProperty("convertible");
    const root = engine.createEpt(ram(), { eptp: EPTP & 0xfffn, ...exceptions });
    expect(fault(root.translate(0))).toMatchObject({ entryAddress: 0n, convertible: true });
    const page = violation(Read, U | W, exceptions);
    expect(page.vector).toBeUndefined();
    const guest = engine.createAddressSpace(memory, {
      cr0: CR0.base,
      cr3: 0x8000n,
      cr4: 0n,
      efer: 0n,
      secondStage: space,
    });
    expect(fault(guest.translate(0))).not.toHaveProperty("convertible");
  });

  it("are not told without the control", () => {
    expect(violation(Read, U | W, {})).not.toHaveProperty("convertible");
  });
});
