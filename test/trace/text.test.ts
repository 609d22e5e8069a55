/** Reading of text: every era's events, every form of a line, what is lost, damaged or hostile. */
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { analyseTrace, TraceError, type WarningCode } from "../../src/trace/index.js";
import * as t from "./writers/script.js";
import { TraceScript } from "./writers/script.js";

const TABLE = "l1 8-byte q0 wux nxe ad";
const head = "       CPU 0/KVM-4000    [000] d..1.   100.000010: ";
const script = () =>
  new TraceScript()
    .on(0, t.got(0x100, "l4 8-byte q0 wux nxe ad", "new"), t.entry(), t.exit("PF excp"), t.fault(0x1000, 6))
    .on(0, t.got(5, TABLE, "new"), t.entry());
const read = async (text: string | Uint8Array, options = {}) =>
  (await analyseTrace(text, { name: "t", ...options })).report;
const said = async (text: string | Uint8Array): Promise<WarningCode[]> =>
  (await read(text)).warnings.map(({ code }) => code).filter((code) => code !== "not-seen");

/** `TP_printk` of the trees that are named, and what must come of each. */
const LINES: readonly (readonly [string, string, object])[] = [
  ["4.19", "kvm_mmu_get_page: sp gen 2a gfn 1f l1 pae q0 direct wux !nxe !ad root 0 sync new", { pages: { made: 1 } }],
  [
    "4.19",
    "kvm_mmu_prepare_zap_page: sp gen 0 gfn 1f l2 q3 wux invalid nxe ad root 1 unsync",
    { pages: { zapped: 1 } },
  ],
  ["5.1", "kvm_mmu_get_page: sp gfn 1f l1 4-byte q1 wux nxe ad root 0 sync existing", { pages: { found: 1 } }],
  ["5.4", "kvm_mmu_sync_page: sp gen 1 gfn 1f l1 8-byte q0 wux nxe ad root 0 unsync", { sync: { synced: 1 } }],
  ["7.2", "kvm_mmu_get_page: sp gen 1 gfn 1f l1 8-byte q0 r-u- nxe ad root 0 sync new", { pages: { made: 1 } }],
  ["4.19", "kvm_page_fault: address 7f0000001000 error_code 6", {}],
  ["6.1", "kvm_page_fault: vcpu 3 rip 0x1000 address 0x0000000000100000 error_code 0x200000006", {}],
  ["4.19", "kvm_mmu_invalidate_zap_all_pages: kvm-mmu-valid-gen 1 used_pages 20", { pages: { zapAlls: 1 } }],
  ["7.2", "kvm_mmu_spte_requested: gfn 5 pfn 6 level 1 access f", { events: { kvm_mmu_spte_requested: 1 } }],
  ["6.18", "kvm_mmu_pagetable_walk: addr 21a0 pferr 25 P|U|PK", { walks: { walks: 1 } }],
  [
    "4.19",
    "fast_page_fault: vcpu 0 gva 1000 error_code P|W sptep 000000001234abcd old 0x1e61 new 1e63 spurious 0 fixed 1",
    { fastFaults: { fixed: 1 } },
  ],
  [
    "5.10",
    "fast_page_fault: vcpu 0 gva 1000 error_code  sptep (____ptrval____) old 0 new 0 spurious 1 fixed 0",
    { fastFaults: { spurious: 1 } },
  ],
  [
    "6.14",
    "kvm_entry: vcpu 1, rip 0xfff0 intr_info 0x00000000 error_code 0x00000000[immediate exit]",
    { vcpus: [{ vcpu: 1, entries: 1 }] },
  ],
  ["4.19", "kvm_entry: vcpu 1", { vcpus: [{ vcpu: 1, entries: 1 }] }],
  ["4.19", "kvm_exit: reason CR_ACCESS rip 0x1000 info 3 0", { events: { kvm_exit: 1 } }],
  ["5.4", "kvm_exit: vcpu 0 reason PF excp rip 0x1000 info 3 0", { events: { kvm_exit: 1 } }],
  [
    "6.14",
    "kvm_exit: vcpu 0 reason npf rip 0x1000 info1 0x0 info2 0x0 intr_info 0x0 error_code 0x0 requests 0x0000000000000008",
    { events: { kvm_exit: 1 } },
  ],
  [
    "plugin",
    "kvm_mmu_get_page: new sp gfn 105 1 q0 direct wux !pae nxe !wp smep root 0 sync\0",
    { pages: { made: 1 } },
  ],
  ["plugin", "kvm_mmu_unsync_page: 1 q0 wux !pae nxe wp root 0 sync\0", { sync: { unsynced: 1 } }],
  ["raw", "kvm_mmu_zap_all_fast: [FAILED TO PARSE] mmu_valid_gen=1 mmu_used_pages=32", { pages: { zapAlls: 1 } }],
];

describe("an event's text", () => {
  it.each(LINES)("of %s is understood: %s", async (_, body, summary) => {
    const report = await read(`${head}${body}\n`);
    expect([report.events, report.unreadable]).toEqual([1, 0]);
    expect(report.summary).toMatchObject(summary);
  });

  it.each([
    "kvm_mmu_get_page: sp gen 0 gfn 1f l1 8-byte q9 wux nxe ad root 0 sync new",
    "kvm_mmu_get_page: sp gen 0 gfn 1f l1 8-byte q0 wux nxe ad root 0 sync",
    "kvm_mmu_get_page: sp gen 0 gfn 11112222333344445 l1 8-byte q0 wux nxe ad root 0 sync new",
    "kvm_entry: vcpu 99999999999999999999",
    "kvm_mmu_paging_element: pte xyz level 4",
    "kvm_mmu_pagetable_walk: ",
  ])("of no kernel is said to be so: %s", async (body) => {
    const report = await read(`${head}${t.entry()}\n${head}${body}\n`);
    expect([report.events, report.unreadable]).toEqual([1, 1]);
    expect(report.warnings.find(({ code }) => code === "damaged")!.message).toContain("line 2: ");
  });
});

describe("a line's beginning", () => {
  it.each([
    ["without flags", " qemu-4000 [002] 5.250000: ", 2],
    ["with a thread group", " CPU 0/KVM-4000 ( 3999) [003] d..1 5.250000: ", 3],
    ["of a command with brackets", " a [1] 7: b-4000 [011] .... 5.250000: ", 11],
    ["of perf script", "       CPU 0/KVM  4000/4000 [000]     5.250000: kvm:", 0],
    ["with nanoseconds", " qemu-4000 [002] d..1. 5.250000000: ", 2],
    ["of several files", " host.dat:  qemu-4000 [002] 5.250000: ", 2],
  ])("%s is read", async (_, beginning, cpu) => {
    const seen: unknown[] = [];
    const onEvent = (event: { pid: number; cpu: number; time: number }) =>
      seen.push([event.pid, event.cpu, event.time]);
    const text = `${beginning}kvm_entry: vcpu 0, rip 0x0\r\n`;
    const report = await read(text, { onEvent });
    expect(report.events).toBe(1);
    expect(seen).toEqual([[4000, cpu, 5.25]]);
  });
});

describe("what a trace says of itself", () => {
  it("is the kernel, as far as its events tell", async () => {
    const kernel = async (body: string) => (await read(`${head}${body}\n`)).kernel;
    expect(await kernel("kvm_mmu_get_page: sp gen 0 gfn 1f l1 pae q0 wux nxe ad root 0 sync new")).toMatchObject({
      newest: "5.0.1",
    });
    expect(await kernel("kvm_mmu_get_page: sp gfn 1f l1 8-byte q0 wux nxe ad root 0 sync new")).toMatchObject({
      oldest: "5.1",
      newest: "5.3.1",
    });
    expect(await kernel("kvm_entry: vcpu 0, rip 0x0 intr_info 0x0 error_code 0x0")).toMatchObject({ oldest: "6.14" });
    expect(await kernel(t.tdpChanged(0, 1, 1n << 63n, 0x1e67n))).toMatchObject({ oldest: "6.10" });
    expect((await read(`# os release : 5.15.0-91-generic\n${head}${t.entry()}\n`)).kernel).toMatchObject({
      release: "5.15.0",
    });
    expect((await read(script().text, { kernel: "6.1.85" })).kernel).toMatchObject({
      release: "6.1.85",
      because: ["--kernel 6.1.85"],
    });
    await expect(read(script().text, { kernel: "2.6" })).rejects.toThrow("no SPTE layout is known");
  });

  it("is lost events, with their number and without", async () => {
    const withLine = (line: string) => script().text.replace("# tracer: nop\n", `# tracer: nop\n${line}\n`);
    for (const [line, lost] of [
      ["CPU:0 [LOST 12 EVENTS]", 12],
      ["CPU:3 [LOST EVENTS]", 0],
      ["CPU:0 [7 EVENTS DROPPED]", 7],
      ["CPU:0 [EVENTS DROPPED]", 0],
      ["       CPU 0/KVM  4000 [000] 5.1: PERF_RECORD_LOST lost 9", 9],
    ] as const) {
      const report = await read(withLine(line));
      expect(report.lost).toBe(lost);
      expect(report.warnings.map(({ code }) => code)).toContain("lost-events");
    }
    expect(await said(withLine("# entries-in-buffer/entries-written: 6/90   #P:1"))).toEqual(["lost-events"]);
    expect(await said(withLine("# entries-in-buffer/entries-written: 9/9   #P:1"))).toEqual(["fewer-events"]);
    expect(await said(withLine("# entries-in-buffer/entries-written: 6/6   #P:1"))).toEqual([]);
  });

  it("is several virtual machines in one", async () => {
    const two = `${script().text}${script().text.replaceAll("-4000 ", "-5000 ")}`;
    expect(await said(two)).toContain("several-vms");
  });

  it("is events of other kinds, by name", async () => {
    const report = await read(`${script().text}${head}sched_switch: prev_comm=a ==> next_comm=b\n${head}kvm_pio: x\n`);
    expect(report.otherEvents).toEqual({ sched_switch: 1, kvm_pio: 1 });
    await expect(read(`${head}sched_switch: a\n`)).rejects.toThrow("t: expected events of KVM");
    await expect(read("hello\n")).rejects.toThrow(TraceError);
    await expect(read("")).rejects.toThrow(TraceError);
  });
});

describe("a filter", () => {
  it("by time counts what is within, and knows the pages from before", async () => {
    const text = script().text;
    const report = await read(text, { since: 100.00005, until: 100.000055 });
    expect(report.events).toBe(6);
    expect(report.summary.events).toEqual({ kvm_mmu_get_page: 1 });
    expect(report.summary.roles.map(({ role, live }) => [role, live])).toEqual([
      ["l4 8-byte q0 wux nxe ad", 1],
      [TABLE, 1],
    ]);
  });

  it("by frame and role shows the events and pages of these", async () => {
    const events: string[] = [];
    const traced = await analyseTrace(script().text, {
      gfn: 5,
      role: "l1 wux",
      onEvent: ({ text }) => events.push(text),
    });
    expect(events).toHaveLength(1);
    expect(traced.pages().map(({ gfn, role }) => [gfn, role])).toEqual([[5, TABLE]]);
  });
});

describe("a text that was handled", () => {
  it("may begin with a byte-order mark of UTF-8, and must not be UTF-16", async () => {
    const { text } = script();
    expect(await said(`\ufeff${text}`)).toEqual([]);
    expect((await read(`\ufeff${text.split("\n").slice(2).join("\n")}`)).events).toBe(6);
    await expect(read(new Uint8Array(Buffer.from(`\ufeff${text}`, "utf16le")))).rejects.toThrow("found UTF-16");
  });

  it("by role takes words that some kernel prints", async () => {
    await expect(read(script().text, { role: "foo" })).rejects.toThrow("role: expected words of a role");
    await expect(read(script().text, { role: "l1 rwux !nxe" })).resolves.toMatchObject({ events: 6 });
  });
});

describe("gzip data that are damaged", () => {
  const whole = script().times(2000, (one, index) => one.on(0, t.fault(index * 4096), t.entry())).text;
  const packed = gzipSync(whole);
  const events = async (bytes: Uint8Array) => (await read(bytes)).events;

  it("behind the last of them lose nothing that was good", async () => {
    const garbage = Buffer.concat([packed, Buffer.from("garbage")]);
    expect(await events(garbage)).toBe(4006);
    expect(await said(garbage)).toEqual(["truncated"]);
    expect(await said(Buffer.concat([packed, Buffer.alloc(512)]))).toEqual([]);
    expect(await events(Buffer.concat([packed, gzipSync(whole), Buffer.from("garbage")]))).toBe(8012);
  });

  it("in the middle are read up to there, and no line is read twice", async () => {
    const half = packed.length >> 1;
    const cut = await read(packed.subarray(0, half));
    expect(cut.events).toBeGreaterThan(1900);
    expect(cut.unreadable).toBeLessThanOrEqual(1);
    expect(cut.warnings.map(({ code }) => code)).not.toContain("out-of-order");
    const small = gzipSync(script().text);
    expect(await events(small.subarray(0, small.length - 9))).toBe(6);
  });

  it("are named where nothing can be read", async () => {
    await expect(read(packed.subarray(0, 12))).rejects.toThrow("found none; the gzip data break off or are damaged");
  });
});

describe("a broken or hostile trace", () => {
  it("that breaks off is read as far as it goes", async () => {
    const { text } = script();
    expect(await said(text.slice(0, -4))).toContain("truncated");
    const packed = gzipSync(script().times(2000, (one, index) => one.on(0, t.fault(index * 4096), t.entry())).text);
    const report = await read(packed.subarray(0, packed.length / 2));
    expect(report.events).toBeGreaterThan(100);
    expect(report.warnings.map(({ code }) => code)).toContain("truncated");
    const damaged = packed.slice();
    damaged.fill(0x55, packed.length / 2, packed.length / 2 + 40);
    expect(await said(damaged)).toContain("truncated");
  });

  it("with endless lines, or lines of zeros, does not hold them", async () => {
    const long = `${"x".repeat(200_000)}\n`;
    expect(await said(`${long}${script().text}${long}`)).toEqual(["damaged"]);
    await expect(read(gzipSync(new Uint8Array(2 ** 28)))).rejects.toThrow("times the compressed bytes");
  });

  it("with other names in every line counts the first thousand, and the rest together", async () => {
    const other = Array.from({ length: 3000 }, (_, index) => `${head}event_${index}: x\n`).join("");
    const report = await read(script().text + other);
    expect(Object.keys(report.otherEvents).length).toBeLessThan(1100);
    expect(Object.values(report.otherEvents).reduce((sum, events) => sum + events, 0)).toBe(3000);
  });

  it("with absurd times and numbers ends", async () => {
    const at = (time: string) => `       CPU 0/KVM-4000    [000] d..1.   ${time}: ${t.entry()}\n`;
    const report = await read(at("1.0") + at("99999999999999999.5") + at("0.1") + at("9".repeat(400)));
    expect(report.events).toBe(3);
    expect(report.unreadable).toBe(1);
    const pages = new TraceScript().times(3000, (one, index) =>
      one.on(0, t.got(2 ** 40 + index * 7919, `l${(index % 15) + 1} 8-byte q0 wux nxe ad`, "new")),
    );
    expect((await read(pages.text)).events).toBe(3000);
  });

  it("follows so many pages, and says how many events are of others", async () => {
    const lines: string[] = [];
    for (let index = 0; index < 2 ** 18 + 50; index++) lines.push(`${head}${t.got(index, TABLE, "new")}`);
    const report = await read(`${lines.join("\n")}\n`);
    expect(report.warnings.find(({ code }) => code === "too-much")!.message).toContain(
      "50 events are of pages beyond the first 262144",
    );
  });
});
