/** Linear-address-space separation (LASS): which accesses it refuses before anything else is looked at. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/access.js";
import { Status } from "../../src/abi/status.js";
import type { AddressSpaceConfig } from "../../src/api.js";
import { GeneralProtectionError } from "../../src/errors.js";
import { CR0, CR4, EFER, engine, longMode, machine, P, PD, PDPT, PML4, PML5, PS, ram, U, W } from "./build.js";

const { Read, Write, User, Fetch, Implicit, Ac, Probe, ShadowStack } = Access;
const LOW = 0x1000n;
const HIGH = 0xffff_ffff_8000_1000n;
const LAM_U57 = 1n << 61n;
const LAM_U48 = 1n << 62n;
const LASS = CR4.pae | CR4.lass;
const SMAP = LASS | CR4.smap;

/** A space in which every linear address is mapped; `user` says whose pages they are. */
function everywhere(changes: Partial<AddressSpaceConfig>, user = true) {
  const bits = P | W | (user ? U : 0n);
  return machine(changes, (memory) => {
    for (let index = 0n; index < 512n; index++) {
      memory.writeU64(PML5 + 8n * index, PML4 | bits);
      memory.writeU64(PML4 + 8n * index, PDPT | bits);
      memory.writeU64(PDPT + 8n * index, PD | bits);
      memory.writeU64(PD + 8n * index, bits | PS);
    }
  }).space;
}

/** Status of the access. */
function status(changes: Partial<AddressSpaceConfig>, address: bigint, access: number, user = true): number {
  const result = everywhere(changes, user).translate(address, access);
  if (!result.ok && result.status === Status.SpaceSeparation) {
    expect(result).toEqual({
      ok: false,
      status: Status.SpaceSeparation,
      vector: 13,
      errorCode: 0n,
      address,
      stage: "guest",
      level: 0,
      entryAddress: 0n,
      entry: 0n,
    });
  }
  return result.status;
}

describe('SDM "Linear-Address Pre-Processing": linear-address-space separation', () => {
  it("refuses user-mode accesses to the upper half, whatever the tables say", () => {
    for (const access of [User, User | Write, User | Fetch, User | Ac, User | Probe, User | ShadowStack]) {
      expect(status({ cr4: LASS }, HIGH, access)).toBe(Status.SpaceSeparation);
      expect(status({ cr4: CR4.pae }, HIGH, access)).not.toBe(Status.SpaceSeparation);
      expect(status({ cr4: SMAP }, LOW, access)).not.toBe(Status.SpaceSeparation);
    }
    expect(status({ cr4: LASS }, HIGH, User)).toBe(Status.SpaceSeparation);
    expect(status({ cr4: LASS }, LOW, User)).toBe(Status.Ok);
  });

  it("refuses supervisor-mode fetches from the lower half, whatever SMAP, SMEP and EFLAGS.AC", () => {
    for (const cr4 of [LASS, SMAP, LASS | CR4.smep]) {
      for (const access of [Fetch, Fetch | Ac, Fetch | Probe]) {
        expect(status({ cr4 }, LOW, access, false)).toBe(Status.SpaceSeparation);
        expect(status({ cr4 }, HIGH, access, false)).toBe(Status.Ok);
      }
    }
  });

  it("refuses supervisor-mode data accesses to the lower half with SMAP and EFLAGS.AC=0", () => {
    for (const kind of [Read, Write, ShadowStack, ShadowStack | Write]) {
      expect(status({ cr4: SMAP }, LOW, kind, false)).toBe(Status.SpaceSeparation);
      expect(status({ cr4: SMAP }, LOW, kind | Ac, false)).not.toBe(Status.SpaceSeparation);
      expect(status({ cr4: LASS }, LOW, kind, false)).not.toBe(Status.SpaceSeparation);
      expect(status({ cr4: SMAP }, HIGH, kind, false)).not.toBe(Status.SpaceSeparation);
    }
  });

  it("holds implicit accesses to it whatever EFLAGS.AC and the CPL", () => {
    for (const access of [Implicit, Implicit | Ac, Implicit | User | Ac, Implicit | Write | Ac]) {
      expect(status({ cr4: SMAP }, LOW, access, false)).toBe(Status.SpaceSeparation);
      expect(status({ cr4: LASS }, LOW, access, false)).toBe(Status.Ok);
      expect(status({ cr4: SMAP }, HIGH, access, false)).toBe(Status.Ok);
    }
  });

  it("comes before masking and the canonical check", () => {
    const tagged = LOW | (5n << 57n);
    expect(status({ cr4: SMAP, cr3: PML4 | LAM_U57 }, tagged, User)).toBe(Status.Ok);
    expect(status({ cr4: SMAP, cr3: PML4 | LAM_U48 }, tagged, Read)).toBe(Status.SpaceSeparation);
    expect(status({ cr4: LASS | CR4.lamSup }, (1n << 63n) | LOW, User)).toBe(Status.SpaceSeparation);
    expect(status({ cr4: LASS }, 1n << 63n, User)).toBe(Status.SpaceSeparation);
    expect(status({ cr4: LASS }, 1n << 63n, Read)).toBe(Status.NonCanonical);
    expect(status({ cr4: LASS }, 1n << 47n, User)).toBe(Status.NonCanonical);
  });

  it("comes before page faults, and sets no accessed flag", () => {
    const { space, memory } = machine({ cr4: SMAP, accessedOnFault: true });
    expect(space.translate(HIGH, User).status).toBe(Status.SpaceSeparation);
    expect(memory.readU64(PML4)).toBe(PDPT | P | W | U);
    expect(space.walk(HIGH, User).steps).toEqual([]);
  });

  it("exists in 5-level paging too, and outside long mode nothing is refused", () => {
    const la57 = { cr4: LASS | CR4.la57, cr3: PML5 };
    expect(status(la57, 1n << 55n, User)).toBe(Status.Ok);
    expect(status(la57, 0xff00_0000_0000_0000n, User)).toBe(Status.SpaceSeparation);
    for (const cr4 of [LASS, CR4.lass]) {
      const config = { cr0: CR0.base | CR0.wp, cr3: 0n, cr4: cr4 | CR4.smap, efer: EFER.nxe };
      const space = engine.createAddressSpace(ram(), config);
      for (const access of [Fetch, Read, User]) {
        expect(space.translate(0x8000_0000n, access).status).toBe(Status.PageFault);
        expect(space.translate(0, access).status).toBe(Status.PageFault);
      }
    }
  });

  it("needs a processor that has it", () => {
    const without = longMode({ cr4: LASS, cpu: { lass: false } });
    expect(() => engine.createAddressSpace(ram(), without)).toThrow(GeneralProtectionError);
    const { space } = machine({ cr4: LASS, cpu: { lass: false }, lenient: true });
    expect(space.translate(HIGH, User).status).toBe(Status.PageFault);
  });
});
