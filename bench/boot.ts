/** The MMU's part of a real boot: the recorded stream through the core, with and without its TLB, and through native C. */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { BootMachine } from "./boot/replay.js";
import { unpackStream } from "./boot/stream.js";
import { core } from "./machine.js";
import { attachNative, type Native } from "./native.js";
import type { Section } from "./report.js";
import { type Candidate, compare, type RoundOptions } from "./rounds.js";

const FILE = fileURLToPath(new URL("boot/debian-boot.bin.gz", import.meta.url));
const TLBS = [1024, 4096];

/** Whether the recorded stream is there: it is no part of the package. */
export function hasBootStream(): boolean {
  return existsSync(FILE);
}

export function measureBoot(native: Native | undefined, options: RoundOptions): Section[] {
  const stream = unpackStream(readFileSync(FILE));
  const { op, access, high, low, place, value, count: work } = stream;
  const machines = [0, ...TLBS].map((entries) => ({ entries, machine: new BootMachine(core, stream, entries) }));
  const plain = machines[0]!.machine;
  const candidates: Candidate[] = [];
  const { sum } = plain.verify();
  if (native !== undefined) {
    plain.reset();
    attachNative(native, { core, space: plain.space, ramLinear: plain.ram, ramSize: plain.ramSize });
    for (const entries of [0, ...TLBS]) {
      const run = () => native.boot(op, access, high, low, place, value, work, entries);
      plain.reset();
      requireSame(`native C, TLB ${entries}`, run(), sum);
      const before = () => plain.reset();
      candidates.push({ name: `native C, ${nameOf(entries)}`, work, before, run });
    }
  }
  for (const { entries, machine } of machines) {
    const verified = machine.verify();
    if (verified.wrong.length !== 0) throw new Error(`the boot stream goes another way:\n${verified.wrong.join("\n")}`);
    requireSame(`core, TLB ${entries}`, verified.sum, sum);
    const before = () => machine.reset();
    candidates.push({ name: `core, ${nameOf(entries)}`, work, before, run: () => machine.run() });
  }
  const results = compare(candidates, options);
  for (const { machine } of machines) machine.dispose();
  return [{ title: "An emulator's day: the boot of a Debian guest", unit: "operation", results }];
}

function nameOf(entries: number): string {
  return entries === 0 ? "no TLB" : `TLB of ${entries.toLocaleString("en")}`;
}

function requireSame(what: string, sum: number, expected: number): void {
  if (sum !== expected) throw new Error(`${what}: the physical addresses add up to ${sum}, expected ${expected}`);
}
