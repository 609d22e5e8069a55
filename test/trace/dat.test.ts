/** trace.dat files: what they say of the kernel and of lost events; those that are damaged, break off, or are not what they say. */
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { analyseTrace, TraceError } from "../../src/trace/index.js";
import { RECORDINGS } from "../recording/fixtures.js";
import { datVersion6, datVersion7 } from "./writers/dat-writer.js";
import { recordedEvents, type WrittenEvent } from "./writers/events.js";
import { LAYOUTS } from "./writers/formats.js";
import { ftraceText } from "./writers/text-writer.js";

let events: WrittenEvent[];

beforeAll(() => {
  events = recordedEvents(join(RECORDINGS, "g3_nested_32/npt1-tdp0")).filter(({ name }) => LAYOUTS.has(name));
});

const codes = async (bytes: Uint8Array) => {
  const { report } = await analyseTrace(bytes);
  return { events: report.events, lost: report.lost, codes: report.warnings.map(({ code }) => code) };
};

describe("a trace.dat file", () => {
  it("names the kernel by uname, or by the formats of its events", async () => {
    const { report } = await analyseTrace(datVersion6(events));
    expect(report.kernel).toEqual({
      release: "6.1.0",
      oldest: "6.1.0",
      newest: "6.1.0",
      because: ["the file names Linux Linux host 6.1.0-30-amd64 #1 SMP x86_64"],
    });
    const nameless = datVersion6(events);
    const at = Buffer.from(nameless).indexOf("Linux host 6.1");
    nameless.set(new TextEncoder().encode("x".repeat(38)), at);
    const other = (await analyseTrace(nameless)).report.kernel;
    expect([other.oldest, other.newest]).toEqual(["6.1", "7.1.5"]);
  });

  it("shows its events as the kernel prints them", async () => {
    const lines: string[] = [];
    await analyseTrace(datVersion7(events), { gfn: 0x102, onEvent: ({ text }) => lines.push(text) });
    expect(lines.find((line) => line.includes("get_page"))).toMatch(
      /^CPU 0\/KVM-1 \[00[01]\] \d+\.\d{6}: kvm_mmu_get_page: sp gen 0 gfn 102 l2 4-byte q0 wux !nxe ad root 0 sync new$/,
    );
  });

  it("has pauses of minutes between events", async () => {
    const later = events.map((event, index) => ({
      ...event,
      time: event.time + BigInt(Math.floor(index / 100)) * 613_000_000_123n,
    }));
    const times = async (input: Uint8Array | string) => (await analyseTrace(input)).report.summary.times;
    expect(await times(datVersion6(later))).toEqual(await times(ftraceText(later)));
  });

  it("tells of lost events, with their number and without", async () => {
    expect(await codes(datVersion6(events, { lost: 12 }))).toMatchObject({ lost: 24, codes: ["lost-events"] });
    expect(await codes(datVersion6(events, { lost: -1 }))).toMatchObject({ lost: 0, codes: ["lost-events"] });
  });

  it("is read as far as it goes where it breaks off", async () => {
    const whole = datVersion6(events);
    for (const cut of [1, 4096, 5000, 20_000]) {
      const { events: found, codes: said } = await codes(whole.subarray(0, whole.length - cut));
      expect(said).toContain("truncated");
      expect(found).toBeLessThan(events.length);
      expect(found).toBeGreaterThan(0);
    }
    const packed = datVersion7(events, true);
    await expect(analyseTrace(packed.subarray(0, packed.length - 300))).rejects.toThrow(TraceError);
  });

  it("is read around pages that contradict themselves", async () => {
    const bytes = datVersion6(events);
    const page = bytes.length - 4096;
    new DataView(bytes.buffer).setUint32(page + 8, 100_000, true);
    expect((await codes(bytes)).codes).toEqual(["damaged"]);
    new DataView(bytes.buffer).setUint32(page + 8, 1000, true);
    new DataView(bytes.buffer).setUint32(page + 16, 28 + 32 * 7, true);
    new DataView(bytes.buffer).setUint32(page + 16 + 116, 0, true);
    expect((await codes(bytes)).codes).toEqual(["damaged"]);
  });

  it("is refused where its head is no head", async () => {
    const bytes = datVersion6(events);
    const changed = (at: number, value: number) => {
      const copy = bytes.slice();
      copy[at] = value;
      return analyseTrace(copy, { name: "t.dat" });
    };
    await expect(changed(10, "5".charCodeAt(0))).rejects.toThrow(
      "t.dat: offset 0xc: expected version 6 or 7 of trace.dat, found 5",
    );
    await expect(changed(12, 1)).rejects.toThrow("expected the byte order of x86");
    await expect(changed(13, 3)).rejects.toThrow("expected longs of 4 or 8 bytes, found 3");
    await expect(changed(17, 0x7f)).rejects.toThrow("expected a page size");
    await expect(analyseTrace(bytes.subarray(0, 300))).rejects.toThrow(TraceError);
    await expect(analyseTrace(bytes.subarray(0, 12))).rejects.toThrow(TraceError);
  });

  it("ends in a TraceError or a report, whatever byte of its head is another", async () => {
    const bytes = datVersion7(events.slice(0, 20), true);
    for (let at = 10; at < bytes.length; at += 7) {
      const copy = bytes.slice();
      copy[at] = copy[at]! ^ 0xff;
      const outcome = await analyseTrace(copy).then(
        ({ report }) => report.events >= 0,
        (error) => error,
      );
      if (outcome !== true) expect(outcome).toBeInstanceOf(TraceError);
    }
  });
});
