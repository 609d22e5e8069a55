/** The same events as tracing/trace, trace-cmd report and perf script print them. */
import type { WrittenEvent } from "./events.js";
import { LAYOUTS } from "./formats.js";

const COMMAND = "CPU 0/KVM";

function seconds(time: bigint, rounded = true): string {
  const micros = (time + (rounded ? 500n : 0n)) / 1000n;
  return `${micros / 1_000_000n}.${String(micros % 1_000_000n).padStart(6, "0")}`;
}

const cpuText = (cpu: number): string => String(cpu).padStart(3, "0");

/** Linux 6.1's /sys/kernel/tracing/trace. */
export function ftraceText(events: readonly WrittenEvent[]): string {
  const head = `# tracer: nop\n#\n# entries-in-buffer/entries-written: ${events.length}/${events.length}   #P:2\n#\n`;
  const lines = events.map(
    ({ name, time, cpu, pid, body }) =>
      `${`${COMMAND}-${pid}`.padStart(23)} [${cpuText(cpu)}] d..1. ${seconds(time).padStart(12)}: ${name}: ${body}\n`,
  );
  return head + lines.join("");
}

/** trace-cmd report, with the kernel's own text. */
export function reportText(events: readonly WrittenEvent[]): string {
  const lines = events.map(
    ({ name, time, cpu, pid, body }) =>
      `${`${COMMAND}-${pid}`.padStart(22)} [${cpuText(cpu)}] ${seconds(time).padStart(12)}: ${`${name}:`.padEnd(21)} ${body}\n`,
  );
  return `cpus=2\n${lines.join("")}`;
}

/** trace-cmd report -N, which knows no text for events whose format it cannot parse: their fields. */
export function rawReportText(events: readonly WrittenEvent[]): string {
  return reportText(events.map((event) => ({ ...event, body: `[FAILED TO PARSE] ${fieldText(event)}` })));
}

function fieldText({ name, fields }: WrittenEvent): string {
  return LAYOUTS.get(name)!
    .fields.map(({ name: field, size, signed }) => {
      const value = fields[field] ?? 0n;
      const shown = signed ? BigInt.asIntN(8 * size, value) : BigInt.asUintN(8 * size, value);
      return size === 8 ? `${field}=0x${shown.toString(16)}` : `${field}=${shown}`;
    })
    .join(" ");
}

/** perf script. */
export function perfText(events: readonly WrittenEvent[]): string {
  const head =
    "# ========\n# captured on    : Mon Nov 30 20:00:00 2026\n# os release : 6.1.0-30-amd64\n# ========\n#\n";
  const lines = events.map(
    ({ system, name, time, cpu, pid, body }) =>
      `${COMMAND.padStart(16)} ${String(pid).padStart(7)} [${cpuText(cpu)}] ${seconds(time).padStart(12)}: ${`${system}:${name}:`.padStart(30)} ${body}\n`,
  );
  return head + lines.join("");
}
