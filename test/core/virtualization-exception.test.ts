/** Virtualization exceptions: what the information area holds. */
import { expect, it } from "vitest";
import {
  decodeVirtualizationException,
  encodeVirtualizationException,
  loadSync,
  virtualizationException,
} from "../../src/core/index.js";

const core = loadSync();

function violation(entry: bigint) {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x10000 }] });
  memory.writeU64(0x1000n, entry);
  const result = core.createEpt(memory, { eptp: 0x101en, violationExceptions: true }).translate(0x123456n, 2);
  if (result.ok) throw new Error("translated");
  return result;
}

it("the area has the exit's fields, and a word that says it is taken (SDM, Virtualization-Exception Information)", () => {
  const exception = virtualizationException(violation(0n), 0xffff_8000_0000_0456n, 3);
  expect(exception).toEqual({
    exitReason: 48,
    exitQualification: 2n,
    guestLinearAddress: 0xffff_8000_0000_0456n,
    guestPhysicalAddress: 0x123456n,
    eptpIndex: 3,
  });
  const area = encodeVirtualizationException(exception);
  const view = new DataView(area.buffer);
  expect(area.length).toBe(4096);
  expect([view.getUint32(0, true), view.getUint32(4, true)]).toEqual([48, 0xffff_ffff]);
  expect([8, 16, 24].map((at) => view.getBigUint64(at, true))).toEqual([2n, 0xffff_8000_0000_0456n, 0x123456n]);
  expect(view.getUint16(32, true)).toBe(3);
  expect(area.subarray(34).every((byte) => byte === 0)).toBe(true);
  expect(decodeVirtualizationException(area)).toEqual(exception);
  view.setUint32(4, 0, true);
  expect(decodeVirtualizationException(area)).toBeUndefined();
  expect(() => decodeVirtualizationException(area.subarray(0, 33))).toThrow(RangeError);
});

it("is made of convertible violations only", () => {
  expect(() => virtualizationException(violation(1n << 63n), 0)).toThrow(RangeError);
  expect(() => virtualizationException(violation(2n), 0)).toThrow(RangeError);
  expect(() => virtualizationException(violation(0n), 0, 512)).toThrow(RangeError);
  expect(() => virtualizationException(violation(0n), -1)).toThrow(RangeError);
});
