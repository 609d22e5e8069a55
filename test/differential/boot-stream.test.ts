/** Three million accesses of a Debian guest, as an emulator recorded them: frames, faults and their codes. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { BootMachine } from "../../bench/boot/replay.js";
import { OP, packStream, unpackStream } from "../../bench/boot/stream.js";
import { loadSync } from "../../src/core/index.js";

const file = readFileSync(new URL("../../bench/boot/debian-boot.bin.gz", import.meta.url));
const stream = unpackStream(file);

describe("the recorded boot", () => {
  it("has what an emulator's MMU is asked for", () => {
    const counts = Array.from({ length: 7 }, (_, op) => stream.op.reduce((sum, one) => sum + (one === op ? 1 : 0), 0));
    expect(counts[OP.access]).toBeGreaterThan(1_000_000);
    for (const op of [OP.edit, OP.cr3, OP.invlpg, OP.invpcid, OP.fault]) expect(counts[op]).toBeGreaterThan(20);
  });

  it.each([0, 64])("goes the way that the emulator went, with %i TLB entries", { timeout: 60_000 }, (entries) => {
    const machine = new BootMachine(loadSync(), stream, entries);
    expect(machine.verify().wrong).toEqual([]);
    machine.dispose();
  });

  it("shows where it goes another way", () => {
    const value = stream.value.slice();
    for (let edit = stream.op.indexOf(OP.edit, 200_000); edit !== -1; edit = stream.op.indexOf(OP.edit, edit + 1)) {
      value[edit]! &= ~1n;
    }
    const unmapped = new BootMachine(loadSync(), { ...stream, value, count: 524_288 }, 0);
    expect(unmapped.verify().wrong[0]).toContain("a fault");
    unmapped.dispose();
    const hashes = stream.hashes.map((hash, block) => (block === 3 ? hash ^ 1 : hash));
    const elsewhere = new BootMachine(loadSync(), { ...stream, hashes, count: 524_288 }, 0);
    expect(elsewhere.verify().wrong).toHaveLength(2);
    elsewhere.dispose();
  });

  it("is packed without loss", () => {
    const again = unpackStream(packStream(stream));
    expect(Object.keys(again)).toEqual(Object.keys(stream));
    for (const name of ["op", "access", "high", "low", "value", "place", "hashes"] as const) {
      expect(Buffer.compare(Buffer.from(again[name].buffer), Buffer.from(stream[name].buffer)), name).toBe(0);
    }
    expect(() => unpackStream(file.subarray(0, 1000))).toThrow();
  });
});
