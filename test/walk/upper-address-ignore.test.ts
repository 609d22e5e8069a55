/** AMD's upper address ignore: which addresses are taken without bits 63:57. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/access.js";
import { Status } from "../../src/abi/status.js";
import type { AddressSpaceConfig } from "../../src/api.js";
import { GeneralProtectionError } from "../../src/errors.js";
import {
  CR0,
  CR4,
  EFER,
  engine,
  fault,
  longMode,
  machine,
  mapped,
  P,
  PD,
  PDPT,
  PML4,
  PML5,
  PS,
  ram,
  U,
  W,
} from "./build.js";

const { Read, Write, User, Fetch, Implicit, ShadowStack, OtherSegment } = Access;
const UAI = { efer: EFER.long | EFER.nxe | EFER.uaie };
const la57 = { cr4: CR4.pae | CR4.la57, cr3: PML5 };
const tag = (value: bigint) => value << 57n;
const MASK = (1n << 64n) - 1n;

/** A space in which the lower half of the addresses leads to one page and the upper half to another. */
function everywhere(changes: Partial<AddressSpaceConfig>) {
  return machine(changes, (memory) => {
    for (let index = 0n; index < 512n; index++) {
      memory.writeU64(PML5 + 8n * index, PML4 | P | W | U);
      memory.writeU64(PML4 + 8n * index, PDPT | P | W | U);
      memory.writeU64(PDPT + 8n * index, PD | P | W | U);
      memory.writeU64(PD + 8n * index, P | W | U | PS);
    }
  }).space;
}

describe('APM vol. 2, "Upper Address Ignore Operation"', () => {
  it("takes bits 63:57 of data addresses for what bit 56 is", () => {
    for (const changes of [UAI, { ...UAI, ...la57 }]) {
      const space = everywhere(changes);
      for (const access of [Read, Write, Read | User, Write | User]) {
        for (const value of [0n, 1n, 0x3fn, 0x40n, 0x7fn]) {
          expect(mapped(space.translate(tag(value) | 0x1234n, access)).pa).toBe(0x1234n);
          // The upper half with any tag.
          const upper = MASK ^ tag(0x7fn) ^ 0xffffn;
          expect(space.translate(tag(value) | upper, access).ok).toBe(true);
        }
      }
    }
  });

  it("checks bits 56:48 with 4-level paging, and nothing with 5-level paging", () => {
    for (const bit of [47n, 48n, 52n, 56n]) {
      for (const value of [0n, 0x15n, 0x7fn]) {
        const address = tag(value) | (1n << bit);
        const result = fault(everywhere(UAI).translate(address, Read));
        expect(result).toMatchObject({ status: Status.NonCanonical, vector: 13, address });
        expect(everywhere({ ...UAI, ...la57 }).translate(address, Read).ok).toBe(true);
      }
    }
  });

  it("is for data accesses by DS and ES only", () => {
    for (const access of [Fetch, Implicit, Implicit | Write, ShadowStack, OtherSegment, OtherSegment | Write | User]) {
      for (const changes of [UAI, { ...UAI, ...la57 }]) {
        expect(everywhere(changes).translate(tag(1n), access).status).toBe(Status.NonCanonical);
        expect(everywhere(changes).translate(tag(0x40n), access).status).toBe(Status.NonCanonical);
      }
    }
    expect(everywhere(UAI).translate(0x1000n, OtherSegment).ok).toBe(true);
  });

  it("does nothing unless EFER.UAIE is set, and nothing outside long mode", () => {
    expect(everywhere({}).translate(tag(1n), Read).status).toBe(Status.NonCanonical);
    expect(everywhere({}).translate(0x1000n, OtherSegment | Write).ok).toBe(true);
    const legacy = engine.createAddressSpace(ram(), { cr0: CR0.base, cr3: 0n, cr4: CR4.pae, efer: EFER.uaie });
    expect(legacy.translate(0x1000, Read).status).toBe(Status.PageFault);
  });

  it("reports a page fault at the address without its tag", () => {
    const { space } = machine(UAI);
    expect(fault(space.translate(tag(5n) | 0x40_0000n, Read)).address).toBe(0x40_0000n);
    const upper = MASK ^ tag(5n) ^ 0xfffn;
    expect(fault(space.translate(upper, Read)).address).toBe(MASK ^ 0xfffn);
  });

  it("leaves other accesses to linear-address masking", () => {
    const both = { ...UAI, cr3: PML4 | (1n << 62n) };
    expect(everywhere(both).translate(1n << 52n, Read).status).toBe(Status.NonCanonical);
    expect(everywhere(both).translate(1n << 52n, OtherSegment).ok).toBe(true);
  });

  it("needs a processor that has it", () => {
    expect(() => engine.createAddressSpace(ram(), longMode({ ...UAI, cpu: { uai: false } }))).toThrow(
      GeneralProtectionError,
    );
    const { space } = machine({ ...UAI, cpu: { uai: false }, lenient: true });
    expect(space.translate(tag(1n), Read).status).toBe(Status.NonCanonical);
  });
});
