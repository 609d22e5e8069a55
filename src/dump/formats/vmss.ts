/** VMware: a state file has the regions of memory and the registers, and beside it or in it is the memory. */
import type { ByteSource } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";
import { ExtentList } from "../memory/extent-list.js";
import { ExtentMap } from "../memory/extents.js";
import { type DumpContent, type DumpCpu, memoryOnly } from "./content.js";
import type { Format, ReadContext } from "./format.js";
import { readRaw } from "./raw.js";
import { type Group, isVmss, readGroups, type Tag } from "./vmss-tags.js";
import { cutWarnings } from "./warnings.js";

const PAGE = 4096;
const PHYSICAL_LIMIT = 2 ** 52;
/** VMware has two or three. */
const MOST_REGIONS = 1024;
const MOST_VCPUS = 1024;
/** A block CR64 has CR0 to CR4 and more. */
const CONTROL_REGISTERS = 5;

export const VMSS: Format = {
  title: "a VMware state file",
  takesParts: true,
  matches: isVmss,
  read: readVmss,
};

/** Reads a state file (.vmss, .vmsn); the memory (.vmem) is the one part, where the state file does not have it. */
function readVmss(source: ByteSource, { parts }: ReadContext): DumpContent {
  const { memory: group, cpu } = readGroups(source, ["memory", "cpu"]);
  const inside = group.tags.find(({ name, block }) => name === "Memory" && block);
  if (inside?.compressed) {
    const how = "memory in a .vmem file beside it can be read";
    throw new DumpError(source.name, inside.offset, `expected memory as it is, found it compressed (${how})`);
  }
  const [beside, ...others] = parts;
  const place = inside === undefined ? beside && { file: beside, offset: 0 } : { file: source, offset: inside.offset };
  if (others.length > 0 || place === undefined) {
    const found = others.length > 0 ? `found ${parts.length} parts` : "found none (--part names it)";
    throw new DumpError(
      source.name,
      undefined,
      `expected the memory file (.vmem) beside a VMware state file, ${found}`,
    );
  }
  const size = inside?.size ?? place.file.size;
  const regions = regionsOf(source, group, size);
  const extents = new ExtentList();
  for (const region of regions) {
    const offset = place.offset + region.offset;
    extents.addCut(region.gpa, region.size, offset, place.file.size - offset);
  }
  const memory = new ExtentMap(place.file, extents);
  if (memory.overlapping)
    throw new DumpError(source.name, undefined, "expected regions of memory that share no address");
  const warnings = [...cpuWarnings(cpu), ...cutWarnings(place.file, memory)];
  if (inside !== undefined && beside !== undefined)
    warnings.push("it has the memory itself: the other file is not read");
  const where = inside === undefined ? `memory in ${place.file.name}` : "with its memory";
  const facts = [{ label: "format", value: `VMware state file, ${where}, ${regions.length} regions` }];
  if (inside === undefined) facts.push({ label: "state", value: source.name });
  return { ...memoryOnly("vmware", memory, facts, warnings), cpus: cpusOf(cpu) };
}

/** A .vmem without a state file: VMware's rule says where its bytes belong, and nothing in it does. */
export function readVmem(source: ByteSource): DumpContent {
  const content = readRaw(source, { pcHole: "vmware" });
  const warning =
    "no state file (.vmss, .vmsn) is given with it: it is read as VMware lays out memory, up to 3 GiB from 0 on and the " +
    "rest from 4 GiB on (--range and --pc-hole say otherwise)";
  return { ...content, warnings: [warning, ...content.warnings] };
}

interface Region {
  readonly gpa: number;
  readonly size: number;
  /** In the memory. */
  readonly offset: number;
}

/** The regions that the state file names; without any, all of the memory from address 0 on. */
function regionsOf(source: ByteSource, group: Group, size: number): Region[] {
  const refuse = (problem: string, offset?: number) => new DumpError(source.name, offset, problem);
  const count = group.tags.find(({ name }) => name === "regionsCount");
  const regions = count === undefined ? 0 : number(count);
  if (regions > MOST_REGIONS) throw refuse(`expected at most ${MOST_REGIONS} regions, found ${regions}`, count!.offset);
  if (regions === 0) {
    if (!group.complete) throw refuse("expected the regions of memory, but the file breaks off before them");
    return [{ gpa: 0, size, offset: 0 }];
  }
  return Array.from({ length: regions }, (_, index): Region => {
    const pages = (name: string): number => {
      const tag = group.tags.find((one) => one.name === name && one.indices[0] === index);
      if (tag !== undefined) return number(tag) * PAGE;
      const why = group.complete ? "found none" : "but the file breaks off before it";
      throw refuse(`expected ${name} of region ${index}, ${why}`);
    };
    const region = { gpa: pages("regionPPN"), size: pages("regionSize"), offset: pages("regionPageNum") };
    if (region.gpa + region.size <= PHYSICAL_LIMIT) return region;
    throw refuse(`region ${index}: expected physical addresses below 2^52, found 0x${region.gpa.toString(16)}`);
  });
}

/** Processors whose CR0, CR3 and CR4 are all there. */
function cpusOf({ tags }: Group): DumpCpu[] {
  const registers = new Map<number, Map<string, bigint>>();
  const set = (index: number | undefined, name: string, value: bigint | undefined) => {
    if (index === undefined || index >= MOST_VCPUS || value === undefined) return;
    if (!registers.has(index)) registers.set(index, new Map());
    registers.get(index)!.set(name, value);
  };
  // CR of 32 bits is in old files alone; where both are there, CR64 comes last here.
  for (const kind of ["CR", "CR64"]) {
    for (const tag of tags.filter(({ name }) => name === kind)) {
      const [cpu, which] = tag.indices;
      if (!tag.block) set(cpu, `CR${which}`, word(tag.value, 0));
      else for (let i = 0; i < CONTROL_REGISTERS; i++) set(cpu, `CR${i}`, word(tag.value, i * 8));
    }
  }
  for (const tag of tags)
    if (tag.name === "rip" || tag.name === "eflags") set(tag.indices[0], tag.name, word(tag.value, 0));
  const cpus: DumpCpu[] = [];
  for (const [index, found] of [...registers].sort(([a], [b]) => a - b)) {
    const [cr0, cr3, cr4] = ["CR0", "CR3", "CR4"].map((name) => found.get(name));
    // A processor that cannot be told keeps its place, or the others would have its number.
    if (cr0 === undefined || cr3 === undefined || cr4 === undefined || index !== cpus.length) break;
    cpus.push({
      index,
      origin: "state file",
      cr0,
      cr2: found.get("CR2") ?? 0n,
      cr3,
      cr4,
      efer: undefined,
      rip: found.get("rip"),
      rflags: found.get("eflags"),
      cpl: undefined,
    });
  }
  return cpus;
}

function cpuWarnings(group: Group): string[] {
  const warnings: string[] = [];
  if (!group.complete)
    warnings.push("the state file breaks off in the registers: those of some processors may be missing");
  const count = group.tags.find(({ name }) => name === "cpu:numVCPUs");
  const known = cpusOf(group).length;
  if (count !== undefined && number(count) !== known) {
    warnings.push(`the state file says that there are ${number(count)} processors, and has registers of ${known}`);
  }
  return warnings;
}

/** A value of 4 or more bytes as a number of 32 bits: counts and page numbers are. */
function number({ value }: Tag): number {
  return value.byteLength >= 4 ? value.getUint32(0, true) : 0;
}

/** A word of 8 or, where the value has no more, 4 bytes. */
function word(value: DataView, at: number): bigint | undefined {
  if (value.byteLength >= at + 8) return value.getBigUint64(at, true);
  return value.byteLength === at + 4 ? BigInt(value.getUint32(at, true)) : undefined;
}
