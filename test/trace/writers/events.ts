/** Events of a recording as a trace has them: what a stock kernel traces, with the kernel's own text beside the fields. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";

export interface WrittenEvent {
  readonly system: string;
  readonly name: string;
  /** Nanoseconds. */
  readonly time: bigint;
  readonly cpu: number;
  readonly pid: number;
  /** As TP_printk has it. */
  readonly body: string;
  readonly fields: Readonly<Record<string, bigint>>;
}

interface JsonEvent extends Readonly<Record<string, unknown>> {
  readonly ev: string;
  readonly sys: string;
}

const LINE = /^\s*\S.*-(\d+)\s+\[\d+\] \S+\s+(\d+)\.(\d+): (\w+): (.*)$/;
/** Events that a processor runs before another goes on. */
const TURN = 37;

function fieldsOf(event: JsonEvent, more: Readonly<Record<string, bigint>>): Record<string, bigint> {
  const fields: Record<string, bigint> = { ...more };
  for (const [name, value] of Object.entries(event)) {
    if (typeof value === "number" || typeof value === "boolean") fields[name] = BigInt(Number(value));
    else if (typeof value === "string" && /^-?(?:0x)?[0-9a-f]+$/.test(value) && name !== "insn")
      fields[name] = BigInt(value);
  }
  return fields;
}

/** All events of the systems kvm and kvmmmu of a recording; two processors take turns. */
export function recordedEvents(folder: string): WrittenEvent[] {
  const scenario = JSON.parse(gunzipSync(readFileSync(join(folder, "scenario.json.gz"))).toString()) as {
    config: { npt: number; ept?: number };
    setup_events: JsonEvent[];
    steps: { vcpu?: number; events: JsonEvent[] }[];
  };
  const text = gunzipSync(readFileSync(join(folder, "trace.txt.gz"))).toString("latin1");
  const isStock = ({ sys }: JsonEvent) => sys === "kvm" || sys === "kvmmmu";
  const isa =
    text.includes("EXIT_REASON") || /reason (?:EPT_|EXTERNAL_|EXCEPTION_NMI|IO_INSTRUCTION)/.test(text) ? 1n : 2n;
  const events = [
    ...scenario.setup_events.map((event) => ({ event, vcpu: 0 })),
    ...scenario.steps.flatMap(({ vcpu = 0, events }) => events.map((event) => ({ event, vcpu }))),
  ].filter(({ event }) => isStock(event));
  const names = new Set(events.map(({ event }) => event.ev));
  const lines = text
    .split("\n")
    .map((line) => LINE.exec(line))
    .filter((match) => match !== null)
    .filter((match) => names.has(match[4]!) && !/^\([a-z_]+\+0x/.test(match[5]!));
  if (lines.length !== events.length) throw new Error(`${folder}: ${lines.length} lines, ${events.length} events`);
  let last = 0n;
  return events.map(({ event, vcpu }, index) => {
    const [, pid, seconds, micros, name, body] = lines[index]!;
    if (name !== event.ev) throw new Error(`${folder}: event ${index} is ${event.ev}, its line has ${name}`);
    // Where in the microsecond an event was is not printed: a place that rounds to it.
    const printed = BigInt(seconds!) * 1_000_000_000n + BigInt(micros!) * 1000n + BigInt((index % 9) - 4) * 50n;
    last = printed > last ? printed : last + 1n;
    return {
      system: event.sys,
      name: event.ev,
      time: last,
      cpu: Math.floor(index / TURN) % 2,
      pid: Number(pid),
      body: body!,
      fields: fieldsOf(event, { vcpu_id: BigInt(vcpu), isa }),
    };
  });
}
