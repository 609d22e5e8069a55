/** Every SPTE in recordings of Linux 6.12 means something by that kernel's rules, and some mean nothing by 6.1's. */
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { Kernel } from "../../src/abi/kernel-rules.js";
import { readRecording } from "../../src/recording/format/reader.js";
import type { Recording } from "../../src/recording/format/recording.js";
import { decodeSpte } from "../../src/spte/index.js";

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), "..", "fixtures", "kernel-recordings");
const NAMES = readdirSync(FOLDER).flatMap((one) => readdirSync(join(FOLDER, one)).map((cfg) => join(one, cfg)));

/** SPTEs of a recording's states and TDP events that mean nothing. */
function meaningless({ config, steps }: Recording, kernel: Kernel): string[] {
  const { masks, npt, ept } = config;
  const format = ept ? "ept" : npt ? "npt" : "shadow";
  const spteMasks = { ...masks, mmio: masks.mmioMask, lowerGfn: masks.nonpresentOrRsvdLowerGfn };
  const words = new Map<string, readonly [bigint, number]>();
  for (const { snapshot, events } of steps) {
    for (const { role, entries } of snapshot.pages) {
      for (const spte of entries.values()) words.set(`${spte} ${role & 15}`, [spte, role & 15]);
    }
    for (const event of events) {
      if (event.ev !== "kvm_tdp_mmu_spte_changed") continue;
      for (const spte of [event.old_spte, event.new_spte]) words.set(`${spte} ${event.level}`, [spte, event.level]);
    }
  }
  return [...words.values()].flatMap(([word, level]) => {
    const { kind, unknown } = decodeSpte(word, { kernel, format, masks: spteMasks, level });
    return kind === "not-present" || unknown !== 0n ? [`0x${word.toString(16)} at level ${level}`] : [];
  });
}

describe.each(NAMES)("%s", (name) => {
  it("has no SPTE that means nothing", () => {
    expect(meaningless(readRecording(join(FOLDER, name)), "6.12")).toEqual([]);
  });
});

it("an empty SPTE of Linux 6.12 means nothing in 6.1", () => {
  expect(meaningless(readRecording(join(FOLDER, "e2_lm4_dirtylog/ept-tdp1-nx")), "6.1").length).toBeGreaterThan(0);
});
