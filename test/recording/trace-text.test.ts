/** The kernel's trace text, printed and parsed. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { EventKind, RecordedEvent } from "../../src/recording/format/events.js";
import { readBytes } from "../../src/recording/format/reader.js";
import {
  normalizeAddresses,
  parseEvent,
  parseTraceLine,
  printEvent,
  TEXT_KINDS,
} from "../../src/recording/format/trace-text.js";
import { NAMES, RECORDINGS, recordingOf } from "./fixtures.js";

describe.each(NAMES)("%s", (name) => {
  const lines = new TextDecoder()
    .decode(readBytes(join(RECORDINGS, name, "trace.txt.gz")))
    .split("\n")
    .map(parseTraceLine)
    .filter((line) => line !== undefined)
    .filter((line) => TEXT_KINDS.has(line.name));

  it("prints every event as the kernel did", () => {
    const { setupEvents, steps } = recordingOf(name);
    const printed = [...setupEvents, ...steps.flatMap((step) => step.events)]
      .filter((event) => TEXT_KINDS.has(event.ev))
      .map((event) => `${event.ev}: ${normalizeAddresses(printEvent(event))}`);
    expect(printed.length).toBeGreaterThan(50);
    expect(printed).toEqual(lines.map((line) => `${line.name}: ${normalizeAddresses(line.body)}`));
  });

  it("parses every line back to what it says", () => {
    for (const line of lines) {
      const event = parseEvent(line.name as EventKind, line.body);
      expect(event, line.body).toBeDefined();
      expect(printEvent(event!)).toBe(line.body);
    }
  });
});

describe("printing", () => {
  const text = (event: object): string => printEvent(event as RecordedEvent);

  it("names PFERR bits in the kernel's order and prints other bits as a number", () => {
    expect(text({ ev: "kvm_mmu_walker_error", pferr: 0x1f })).toBe("pferr 1f P|W|U|RSVD|F");
    expect(text({ ev: "kvm_mmu_walker_error", pferr: 0x21 })).toBe("pferr 21 P|0x20");
    expect(text({ ev: "kvm_mmu_walker_error", pferr: 0 })).toBe("pferr 0 ");
  });

  it("shows each role field that the kernel shows", () => {
    const page = { ev: "kvm_mmu_sync_page", mmu_valid_gen: 1, gfn: 0x10an, root_count: 2, unsync: 1 };
    expect(text({ ...page, role: 0x3701 })).toBe("sp gen 1 gfn 10a l1 8-byte q0 wux nxe ad root 2 unsync");
    expect(text({ ...page, role: 0x10cf2, unsync: 0 })).toBe(
      "sp gen 1 gfn 10a l2 4-byte q3 direct -u- invalid !nxe !ad root 2 sync",
    );
  });

  it("leaves the user letter out where the format has no user bit", () => {
    const event = { ev: "kvm_mmu_set_spte", gfn: 1n, spte: 0x2n, sptep: 0x3000n, level: 1, r: 1, x: 0 };
    expect(text({ ...event, u: -1 })).toBe("gfn 1 spte 2 (rw-) level 1 at 3000");
    expect(text({ ...event, u: 0 })).toBe("gfn 1 spte 2 (rw--) level 1 at 3000");
  });

  it("says of a fast page fault whether it was spurious or fixed", () => {
    const event = {
      ev: "fast_page_fault",
      vcpu_id: 1,
      cr2_or_gpa: 0x1000n,
      error_code: 3,
      sptep: 0xffff888000001000n,
      old_spte: 0n,
      new_spte: 7n,
    };
    const head = "vcpu 1 gva 1000 error_code P|W sptep ffff888000001000 old 0x0 new 7";
    expect(text({ ...event, ret: 4 })).toBe(`${head} spurious 0 fixed 1`);
    expect(text({ ...event, ret: 5 })).toBe(`${head} spurious 1 fixed 0`);
    expect(text({ ...event, ret: 3 })).toBe(`${head} spurious 0 fixed 0`);
    // RET_PF_WRITE_PROTECTED moved both numbers.
    const later = (ret: number) => printEvent({ ...event, ret } as unknown as RecordedEvent, "6.12");
    expect([4, 5, 6].map(later)).toEqual([
      `${head} spurious 0 fixed 0`,
      `${head} spurious 0 fixed 1`,
      `${head} spurious 1 fixed 0`,
    ]);
    for (const ret of [5, 6]) expect(parseEvent("fast_page_fault", later(ret), "6.12")).toMatchObject({ ret });
  });

  it("prints and parses error codes of 64 bits", () => {
    const event = { ev: "fast_page_fault", vcpu_id: 0, cr2_or_gpa: 0n, sptep: 0n, old_spte: 0n, new_spte: 0n, ret: 0 };
    const line = text({ ...event, error_code: 0x1_0000_0007n });
    expect(line).toContain("error_code P|W|U|0x100000000 sptep");
    expect(parseEvent("fast_page_fault", line)).toMatchObject({ error_code: 0x1_0000_0007n });
  });

  it("refuses kinds that it has no format for", () => {
    expect(() => text({ ev: "vcpu_run", kvcpu: 0n })).toThrow(RangeError);
  });
});

describe("parsing", () => {
  it("refuses text that is not of the form, or contradicts itself", () => {
    expect(parseEvent("kvm_mmu_walker_error", "pferr zz P")).toBeUndefined();
    expect(parseEvent("kvm_mmu_walker_error", "pferr 1 W")).toBeUndefined();
    expect(parseEvent("kvm_mmu_paging_element", "pte 1 level 1 more")).toBeUndefined();
  });

  it("splits a line of the trace buffer and passes over comments", () => {
    expect(parseTraceLine("#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION")).toBeUndefined();
    expect(
      parseTraceLine(
        "            init-1       [000] .N.1.     3.038198: kvm_mmu_spte_requested: gfn 2 pfn 29ca level 1",
      ),
    ).toEqual({
      task: "init-1",
      cpu: 0,
      flags: ".N.1.",
      time: "3.038198",
      name: "kvm_mmu_spte_requested",
      body: "gfn 2 pfn 29ca level 1",
    });
  });
});
