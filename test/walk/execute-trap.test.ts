/** AMD's guest mode execute trap (GMET): what U/S and NX of nested entries mean with it. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/access.js";
import { Status } from "../../src/abi/status.js";
import type { NptConfig, Translation } from "../../src/api.js";
import {
  CR0,
  chain,
  EFER,
  EPT_PD,
  engine,
  eptLeafOf,
  longMode,
  nptIdentity,
  nptSpace,
  P,
  PAGE,
  PT,
  ram,
  U,
  W,
  XD,
} from "./build.js";

const { Read, Write, User, Fetch, Implicit, ShadowStack } = Access;
const GMET: Partial<NptConfig> = { guestModeExecuteTrap: true };
const FINAL = 1n << 32n;
const TABLE = 1n << 33n;
const SSS = 1n << 37n;
type Ram = ReturnType<typeof ram>;

/** EXITINFO1 of a guest's access to linear address 0 whose nested leaf has `bits`; 0n where it is allowed. */
function exit(access: number, bits: bigint, changes: Partial<NptConfig> = GMET, edit?: (memory: Ram) => void): bigint {
  const memory = ram();
  chain(memory);
  nptIdentity(memory);
  memory.writeU64(eptLeafOf(PAGE), PAGE | P | bits);
  edit?.(memory);
  const space = engine.createAddressSpace(memory, longMode({ secondStage: nptSpace(memory, changes) }));
  return codeOf(space.translate(0, access));
}

function codeOf(result: Translation): bigint {
  if (result.ok) return 0n;
  expect(result.status).toBe(Status.NestedPageFault);
  return result.errorCode;
}

describe('APM vol. 2, "Guest Mode Execute Trap Extension"', () => {
  it("forbids supervisor-mode fetches where U/S is 1 and NX is 0", () => {
    expect(exit(Fetch, W | U)).toBe(FINAL | 0x11n);
    expect(exit(Fetch | User, W | U)).toBe(0n);
    expect(exit(Fetch, W)).toBe(0n);
    expect(exit(Fetch | User, W)).toBe(0n);
  });

  it("forbids every fetch where NX is 1", () => {
    for (const bits of [W | U | XD, W | XD]) {
      expect(exit(Fetch, bits)).toBe(FINAL | 0x11n);
      expect(exit(Fetch | User, bits)).toBe(FINAL | 0x15n);
    }
  });

  it("takes U/S and NX of all entries together", () => {
    const noUser = (memory: Ram) => memory.writeU64(EPT_PD, memory.readU64(EPT_PD) & ~U);
    expect(exit(Fetch, W | U, GMET, noUser)).toBe(0n);
    const noExecute = (memory: Ram) => memory.writeU64(EPT_PD, memory.readU64(EPT_PD) | XD);
    expect(exit(Fetch | User, W, GMET, noExecute)).toBe(FINAL | 0x15n);
  });

  it("leaves reads and writes alone, but for R/W (KVM, update_permission_bitmask of Linux 7.2)", () => {
    for (const user of [0, User]) {
      for (const bits of [W, W | U]) {
        expect(exit(Read | user, bits)).toBe(0n);
        expect(exit(Write | user, bits)).toBe(0n);
      }
      const mode = user === 0 ? 0n : 4n;
      expect(exit(Write | user, U)).toBe(FINAL | 3n | mode);
      // The host's CR0.WP is ignored.
      expect(exit(Write | user, 0n, { ...GMET, cr0: CR0.base })).toBe(FINAL | 3n | mode);
    }
    expect(exit(Implicit | Write | User, U)).toBe(FINAL | 3n);
  });

  it("tells the guest's mode in bit 2 of faults at the final address, and a user's at its tables", () => {
    const gone = (page: bigint) => (memory: Ram) => memory.writeU64(eptLeafOf(page), 0n);
    expect(exit(Read, W | U, GMET, gone(PAGE))).toBe(FINAL);
    expect(exit(Read | User, W | U, GMET, gone(PAGE))).toBe(FINAL | 4n);
    expect(exit(Read, W | U, GMET, gone(PT))).toBe(TABLE | 6n);
    expect(exit(Read, W | U, {}, gone(PAGE))).toBe(FINAL | 4n);
  });

  it("does not concern accesses to the guest's tables, which are no fetches", () => {
    const supervisor = (memory: Ram) => memory.writeU64(eptLeafOf(PT), PT | P | W);
    expect(exit(Read, W, GMET, supervisor)).toBe(0n);
    expect(exit(Read, W, {}, supervisor)).toBe(TABLE | 7n);
  });

  it("reports fetches, and refuses them, whatever the host's NXE", () => {
    const legacy = { ...GMET, efer: EFER.long };
    expect(exit(Fetch, W | U, legacy)).toBe(FINAL | 0x11n);
    expect(exit(Fetch | User, W | U, legacy)).toBe(0n);
    expect(exit(Fetch, W, legacy)).toBe(0n);
  });

  it("lets ordinary data accesses reach pages of supervisor shadow stacks", () => {
    const both = { ...GMET, shadowStackCheck: true };
    expect(exit(Read, XD, both)).toBe(0n);
    expect(exit(Write, XD, both)).toBe(FINAL | SSS | 3n);
    expect(exit(Read, XD, { shadowStackCheck: true })).toBe(FINAL | SSS | 5n);
    const stack = (memory: Ram) => memory.writeU64(PT, PAGE | P | (1n << 6n));
    expect(exit(ShadowStack | Write, XD, both, stack)).toBe(0n);
    expect(exit(ShadowStack | Write, W | U, both, stack)).toBe(FINAL | 0x43n);
  });

  it("goes by the access of a guest-physical address that is given directly", () => {
    const memory = ram();
    nptIdentity(memory);
    const space = nptSpace(memory, GMET);
    expect(codeOf(space.translate(0x5000, Fetch))).toBe(FINAL | 0x11n);
    expect(codeOf(space.translate(0x5000, Fetch | User))).toBe(0n);
    expect(codeOf(space.translate(0x5000, Write))).toBe(0n);
  });

  it("is off unless it is asked for, and in the rules kvm-6.1", () => {
    expect(exit(Fetch, W | U, {})).toBe(0n);
    expect(exit(Fetch, W, {})).toBe(FINAL | 0x15n);
    expect(exit(Fetch, W | U, { ...GMET, rules: "kvm-6.1" })).toBe(0n);
    expect(exit(Fetch, W, { ...GMET, rules: "kvm-6.1" })).toBe(FINAL | 0x15n);
  });
});
