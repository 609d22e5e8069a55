/** The core's permission table against a running kernel's. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { loadSync } from "../../src/core/index.js";
import { SpaceRecord } from "../../src/core/records/walk.js";

interface Recorded {
  readonly cr0: number;
  readonly cr4: number;
  readonly efer: number;
  /** `permissions[16]` of the running kernel's kvm_mmu, two hexadecimal digits each. */
  readonly permissions: string;
}

const recorded: Recorded[] = JSON.parse(
  readFileSync(new URL("../fixtures/permissions/recorded.json", import.meta.url), "utf8"),
);

describe("the permission table of the kvm rule set", () => {
  const core = loadSync();
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 4096 }] });

  it.each(recorded)("is Linux 6.1's for CR0 $cr0, CR4 $cr4, EFER $efer", ({ permissions, ...registers }) => {
    const space = core.createAddressSpace(memory, { ...registers, cr3: 0, rules: "kvm-6.1" });
    const record = new SpaceRecord(core.internals().linear, space.pointer);
    const words = Array.from({ length: 16 }, (_, index) => record.permissions(index));
    // KVM has eight rights combinations, the table sixteen: without the EPT-only right.
    expect(words.map((word) => (word & 0xff).toString(16).padStart(2, "0")).join("")).toBe(permissions);
    // The upper eight are the same ones with a right that legacy formats do not know.
    expect(words.every((word) => word >> 8 === (word & 0xff))).toBe(true);
    space.dispose();
  });
});
