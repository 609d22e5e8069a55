/** What a dump is, in rows for people and as one JSON object. */
import { type Dump, type DumpRegisters, type KernelRegion, kernelRelease, type MemoryRange } from "../dump/node.js";
import { modeTitle, pagingModeOf } from "../maps/mode.js";
import type { CliContext } from "./context.js";
import { hex, sizeText } from "./values.js";

/** Registers in the order in which they are shown. */
const SHOWN = ["cr0", "cr3", "cr4", "efer"] as const;
/** Ranges that are shown unless all are asked for. */
const FEW_RANGES = 16;

/** What is known of the registers: they themselves, or why they are not known. */
export type KnownRegisters =
  | { readonly registers: DumpRegisters }
  | { readonly registers?: undefined; readonly problem: string };

/** Prints format, memory, processors and registers, each with what it rests on. */
export function describeDump(context: CliContext, dump: Dump, known: KnownRegisters): void {
  const row = (label: string, value: string) => context.out.line(`  ${label.padEnd(11)} ${value}`);
  const dim = (text: string) => context.style("dim", text);
  context.out.line(context.style("bold", dump.name));
  for (const fact of dump.facts) row(fact.label, fact.value);
  if (dump.compressed) row("packed", "compressed as a whole");
  const release = kernelRelease(dump.vmcoreinfo);
  if (release !== undefined) row("system", `Linux ${release} (VMCOREINFO)`);
  for (const warning of dump.warnings) row("warning", warning);
  if (dump.cpus.length === 0) {
    const count = dump.prstatusCount;
    row("processors", count === 0 ? "no notes of any" : `${count} by CORE notes, which have no control registers`);
  }
  for (const cpu of dump.cpus) {
    const efer = cpu.efer === undefined ? "" : `, EFER ${hex(cpu.efer)}`;
    const rip = cpu.rip === undefined ? "" : `; RIP ${hex(cpu.rip)}`;
    const cpl = cpu.cpl === undefined ? "" : `, CPL ${cpu.cpl}`;
    row(
      `cpu ${cpu.index}`,
      `CR0 ${hex(cpu.cr0)}, CR3 ${hex(cpu.cr3)}, CR4 ${hex(cpu.cr4)}${efer}${rip}${cpl}  ${dim(cpu.origin)}`,
    );
  }
  const { registers } = known;
  if (registers === undefined) {
    row("mode", "unknown");
    row("CR3", `unknown: ${known.problem}`);
    return;
  }
  row("mode", modeTitle(pagingModeOf(registers)));
  for (const name of SHOWN)
    row(name.toUpperCase(), `${hex(registers[name]).padEnd(20)} ${dim(registers.origin[name])}`);
  row("MAXPHYADDR", `${String(registers.maxPhysAddr).padEnd(20)} ${dim(registers.origin.maxPhysAddr)}`);
  if (registers.encryptionMask !== 0n) {
    row("encryption", `${hex(registers.encryptionMask).padEnd(20)} ${dim(registers.origin.encryptionMask)}`);
  }
}

/** Prints the ranges that the dump holds, has excluded and lacks; the first few of each unless `all`. */
export function describeRanges(context: CliContext, dump: Dump, all: boolean): void {
  const kinds = [
    ["held", dump.memory.ranges()],
    ["excluded", dump.memory.lackingRanges("excluded")],
    ["cut", dump.memory.lackingRanges("cut")],
  ] as const;
  for (const [kind, ranges] of kinds) {
    const shown = all ? ranges : ranges.slice(0, FEW_RANGES);
    for (const { gpa, size } of shown) {
      context.out.line(
        `  ${hex(gpa).padStart(18)} - ${hex(gpa + size).padEnd(18)} ${sizeText(size).padStart(10)} ${kind}`,
      );
    }
    if (shown.length < ranges.length) {
      context.out.line(`  ${ranges.length - shown.length} more of ${kind} memory (--ranges shows all)`);
    }
  }
}

/** Prints what the kernel has where, and what says so; nothing where it is not known. */
export function describeRegions(context: CliContext, regions: readonly KernelRegion[]): void {
  if (regions.length === 0) return;
  context.out.line("");
  context.out.line(context.style("bold", "Kernel"));
  for (const { name, start, end, basis } of regions) {
    const range = `${hex(start)} - ${hex(BigInt.asUintN(64, end))}`;
    context.out.line(`  ${name.padEnd(14)} ${range.padEnd(39)} ${context.style("dim", basis)}`);
  }
}

/** The same as one object. */
export function dumpJson(dump: Dump, known: KnownRegisters, regions: readonly KernelRegion[]): Record<string, unknown> {
  const { memory, longMode } = dump;
  const ranges = (list: readonly MemoryRange[]) => list.map(({ gpa, size }) => ({ gpa: hex(gpa), size: Number(size) }));
  return {
    name: dump.name,
    format: dump.format,
    compressed: dump.compressed,
    machine: dump.machine ?? null,
    longMode: longMode ?? null,
    facts: dump.facts,
    warnings: dump.warnings,
    memory: {
      held: { ...memory.held, list: ranges(memory.ranges()) },
      excluded: { ...memory.lacking.excluded, list: ranges(memory.lackingRanges("excluded")) },
      cut: { ...memory.lacking.cut, list: ranges(memory.lackingRanges("cut")) },
    },
    release: kernelRelease(dump.vmcoreinfo) ?? null,
    cpus: dump.cpus.map((cpu) => ({
      cpu: cpu.index,
      cr0: hex(cpu.cr0),
      cr2: hex(cpu.cr2),
      cr3: hex(cpu.cr3),
      cr4: hex(cpu.cr4),
      efer: cpu.efer === undefined ? null : hex(cpu.efer),
      rip: cpu.rip === undefined ? null : hex(cpu.rip),
      cpl: cpu.cpl ?? null,
      origin: cpu.origin,
    })),
    registers: known.registers === undefined ? { problem: known.problem } : registersJson(known.registers),
    kernel: regions.map(({ name, start, end, basis }) => ({ name, start: hex(start), end: hex(end), basis })),
  };
}

function registersJson(registers: DumpRegisters): Record<string, unknown> {
  const values = Object.fromEntries(
    [...SHOWN, "encryptionMask" as const].map((name) => [
      name,
      { value: hex(registers[name]), origin: registers.origin[name] },
    ]),
  );
  const maxPhysAddr = { value: registers.maxPhysAddr, origin: registers.origin.maxPhysAddr };
  return { mode: pagingModeOf(registers), ...values, maxPhysAddr };
}
