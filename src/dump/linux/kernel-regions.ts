/**
 * What a Linux kernel of x86-64 has where in its half of the address space (Documentation/arch/x86/x86_64/mm.rst). The direct map,
 * vmalloc and vmemmap begin at random addresses (arch/x86/mm/kaslr.c): they are told by what their tables map, or by VMCOREINFO.
 */
import type { PageSource } from "../../api.js";
import type { TableMemory } from "../tables/table-reader.js";
import { SHAPES } from "../tables/table-shape.js";
import { KernelTables, type Slot } from "./kernel-tables.js";
import { kernelOffsetIn, numberIn, symbolIn } from "./vmcoreinfo-text.js";

/** What lies at known addresses, or where tables or VMCOREINFO say that it does. */
export interface KernelRegion {
  readonly name: string;
  readonly start: bigint;
  /** The first address behind it, up to 2^64. */
  readonly end: bigint;
  /** What says so. */
  readonly basis: string;
}

/** Memory with page tables and data: a dump. */
export interface KernelMemory extends TableMemory {
  readonly pageSource: PageSource;
}

/** What is known of the kernel beside its tables. */
export interface KernelRegionOptions {
  /** The bit of entries that says that a page is encrypted. Default 0n. */
  readonly encryptionMask?: bigint;
  /** The text of VMCOREINFO. */
  readonly vmcoreinfo?: string | undefined;
}

const PAGE = 4096n;
const GIB = 1n << 30n;
const MIB_2 = 1n << 21n;
/** Memory that one entry of level 2 of vmemmap describes: a section, with 64 bytes for each page (SECTION_SIZE_BITS). */
const SECTION = 128n * 2n ** 20n;
/** Sections that are compared. */
const MOST_SECTIONS = 4096n;

/** __START_KERNEL_map: the image, and behind its most possible size the modules. */
const IMAGE = 0xffff_ffff_8000_0000n;
const IMAGE_SIZE_KASLR = GIB;
const MODULES_END = 0xffff_ffff_ff00_0000n;
/** From here on nothing moves. */
const FIXED = 0xffff_fe00_0000_0000n;
const TIB = 1n << 40n;

/** By addresses that no kernel option moves. */
const FIXED_REGIONS: readonly (readonly [string, bigint, bigint])[] = [
  ["cpu entry area", FIXED, FIXED + TIB / 2n],
  ["espfix", FIXED + TIB, FIXED + TIB + TIB / 2n],
  ["EFI", 0xffff_ffef_0000_0000n, 0xffff_ffff_0000_0000n],
  ["fixmap", MODULES_END, 0xffff_ffff_ff60_0000n],
  ["vsyscall", 0xffff_ffff_ff60_0000n, 0xffff_ffff_ff60_1000n],
];
/** Where the parts that move can be, and in front of them the place of the LDT that users' roots have, too. */
const MOVING = {
  "4level": { start: 0xffff_8800_0000_0000n, ldtEnd: 0xffff_8880_0000_0000n },
  "5level": { start: 0xff10_0000_0000_0000n, ldtEnd: 0xff11_0000_0000_0000n },
};
const FIXED_BASIS = "Linux's fixed address";

/**
 * The regions of the kernel whose tables are at `root`, ascending, where something is mapped in them. None where the tables are not
 * Linux's: there is no direct map, or nothing has VMCOREINFO, and image and vmemmap do not fit to it.
 */
export function kernelRegions(
  memory: KernelMemory,
  root: bigint,
  mode: keyof typeof MOVING,
  { encryptionMask = 0n, vmcoreinfo }: KernelRegionOptions = {},
): KernelRegion[] {
  const tables = new KernelTables(memory, SHAPES[mode], root, encryptionMask);
  const slots = tables.slots();
  if (slots === undefined) return [];
  const direct = directMap(slots, mode);
  if (direct === undefined) return [];
  const image = imageOf(tables, slots, vmcoreinfo);
  const vmemmap = vmemmapBySections(memory, tables, direct, vmcoreinfo) ?? vmemmapByTables(tables, slots, direct);
  if (vmcoreinfo === undefined && (vmemmap === undefined || image.length === 0)) return [];
  const found = [...image, direct, ...vmalloc(slots, direct, vmemmap)];
  if (vmemmap !== undefined) found.push(vmemmap);
  const { start, ldtEnd } = MOVING[mode];
  const fixed = [["LDT", start, ldtEnd] as const, ...FIXED_REGIONS].filter(([name, from, to]) =>
    name === "LDT" ? isMapped(slots, from, to) && direct.start >= to : touches(tables, slots, from, to),
  );
  for (const [name, from, to] of fixed) found.push({ name, start: from, end: to, basis: FIXED_BASIS });
  if (tables.isExhausted) return [];
  return found.sort((a, b) => (a.start < b.start ? -1 : 1));
}

/** Most of its slots are at one distance from physical memory, a multiple of 1 GiB, which is where it begins. */
function directMap(slots: readonly Slot[], mode: keyof typeof MOVING): KernelRegion | undefined {
  const ends = new Map<bigint, { count: number; end: bigint }>();
  for (const { va, first } of slots) {
    const distance = first.va - first.pa;
    if (va < MOVING[mode].start || va >= FIXED || distance % GIB !== 0n || distance < MOVING[mode].start) continue;
    ends.set(distance, { count: (ends.get(distance)?.count ?? 0) + 1, end: va + GIB });
  }
  const [best] = [...ends].sort(([a, one], [b, other]) => other.count - one.count || (a < b ? -1 : 1));
  if (best === undefined || !slots.some(({ va }) => va === best[0])) return undefined;
  const [start, { count, end }] = best;
  return {
    name: "direct map",
    start,
    end,
    basis: `its tables: ${count} GiB hold memory at this distance from physical address 0`,
  };
}

function imageOf(tables: KernelTables, slots: readonly Slot[], vmcoreinfo: string | undefined): KernelRegion[] {
  const declared = numberIn(vmcoreinfo ?? "", "KERNEL_IMAGE_SIZE");
  const blocks = blocksIn(tables, slots, IMAGE, MODULES_END);
  const [first] = blocks;
  if (first === undefined) return [];
  const half = IMAGE + IMAGE_SIZE_KASLR / 2n;
  const isSmall = !blocks.some((va) => va >= IMAGE + IMAGE_SIZE_KASLR) && first < half;
  const limit = IMAGE + (declared ?? (isSmall ? IMAGE_SIZE_KASLR / 2n : IMAGE_SIZE_KASLR));
  const basis = declared === undefined ? "its tables" : "VMCOREINFO, KERNEL_IMAGE_SIZE";
  const found: KernelRegion[] = [];
  const last = blocks.filter((va) => va < limit).at(-1);
  if (last !== undefined) {
    const offset = vmcoreinfo === undefined ? undefined : kernelOffsetIn(vmcoreinfo);
    const moved =
      offset === undefined ? "its tables" : `its tables; moved by 0x${offset.toString(16)} (VMCOREINFO, KERNELOFFSET)`;
    found.push({ name: "kernel image", start: first, end: last + MIB_2, basis: moved });
  }
  if (blocks.some((va) => va >= limit)) found.push({ name: "modules", start: limit, end: MODULES_END, basis });
  return found;
}

/** By a section's entry of the array that VMCOREINFO names: it is the address of vmemmap, with flags below (mmzone.h). */
function vmemmapBySections(
  memory: KernelMemory,
  tables: KernelTables,
  direct: KernelRegion,
  vmcoreinfo: string | undefined,
): KernelRegion | undefined {
  if (vmcoreinfo === undefined) return undefined;
  const roots = symbolIn(vmcoreinfo, "mem_section");
  const size = numberIn(vmcoreinfo, "mem_section", "SIZE");
  const offset = numberIn(vmcoreinfo, "mem_section.section_mem_map", "OFFSET");
  if (roots === undefined || size === undefined || offset === undefined || size < 8n || size > PAGE) return undefined;
  const section = wordsAt(memory, tables, roots).find((word) => word !== 0n);
  if (section === undefined) return undefined;
  const words = wordsAt(memory, tables, section);
  for (let at = offset; at + 8n <= BigInt(words.length) * 8n; at += size) {
    const start = words[Number(at / 8n)]! & ~(PAGE - 1n);
    if (start === 0n) continue;
    if (start % GIB !== 0n || start < direct.end || start >= FIXED) return undefined;
    return { name: "vmemmap", start, end: endOfVmemmap(start, direct), basis: "VMCOREINFO, mem_section" };
  }
  return undefined;
}

/** The words from an address to the end of its page; none where it is not mapped or not held. */
function wordsAt({ pageSource }: KernelMemory, tables: KernelTables, va: bigint): bigint[] {
  const pa = va % 8n === 0n ? tables.translate(va) : undefined;
  const page = new Uint8Array(Number(PAGE));
  if (pa === undefined || !pageSource.readPage(pa / PAGE, page)) return [];
  const view = new DataView(page.buffer);
  const words: bigint[] = [];
  for (let at = Number(pa % PAGE); at < page.length; at += 8) words.push(view.getBigUint64(at, true));
  return words;
}

/** It is mapped where the direct map has memory, 2 MiB for each section, and nowhere else. */
function vmemmapByTables(tables: KernelTables, slots: readonly Slot[], direct: KernelRegion): KernelRegion | undefined {
  const candidates = runsOf(slots, direct.end, FIXED).reverse();
  const sections = sectionsIn(direct);
  for (const { start } of candidates) {
    let mapped = 0;
    let fits = true;
    for (let section = 0n; fits && section < sections; section++) {
      const has = tables.touches(start + section * MIB_2);
      if (has) mapped++;
      fits = has === hasMemory(tables, direct, section);
    }
    if (fits && mapped > 0) {
      return {
        name: "vmemmap",
        start,
        end: endOfVmemmap(start, direct),
        basis: `its tables: 2 MiB for each of ${mapped} sections of memory`,
      };
    }
  }
  return undefined;
}

function hasMemory(tables: KernelTables, { start }: KernelRegion, section: bigint): boolean {
  for (let at = 0n; at < SECTION; at += MIB_2) if (tables.touches(start + section * SECTION + at)) return true;
  return false;
}

function sectionsIn({ start, end }: KernelRegion): bigint {
  const sections = (end - start) / SECTION;
  return sections < MOST_SECTIONS ? sections : MOST_SECTIONS;
}

function endOfVmemmap(start: bigint, direct: KernelRegion): bigint {
  return start + ((direct.end - direct.start) / SECTION) * MIB_2;
}

/** What is mapped between the direct map and vmemmap: these three keep their order. */
function vmalloc(slots: readonly Slot[], direct: KernelRegion, vmemmap: KernelRegion | undefined): KernelRegion[] {
  if (vmemmap === undefined) return [];
  const [first] = runsOf(slots, direct.end, vmemmap.start);
  if (first === undefined) return [];
  const basis = "between the direct map and vmemmap, where Linux has it";
  return [{ name: "vmalloc", start: first.start, end: vmemmap.start, basis }];
}

/** Slots in [from, to) that follow each other. */
function runsOf(slots: readonly Slot[], from: bigint, to: bigint): { readonly start: bigint; readonly end: bigint }[] {
  const runs: { start: bigint; end: bigint }[] = [];
  for (const { va } of slots) {
    if (va < from || va >= to) continue;
    const last = runs.at(-1);
    if (last?.end === va) last.end += GIB;
    else runs.push({ start: va, end: va + GIB });
  }
  return runs;
}

function isMapped(slots: readonly Slot[], from: bigint, to: bigint): boolean {
  return slots.some(({ first }) => first.va >= from && first.va < to);
}

/** Whether one of the fixed regions has something: of small ones each 2 MiB, or the page. */
function touches(tables: KernelTables, slots: readonly Slot[], from: bigint, to: bigint): boolean {
  if (to - from >= GIB) return isMapped(slots, from, to);
  if (to - from < MIB_2) return tables.translate(from) !== undefined;
  return blocksIn(tables, slots, from, to).length > 0;
}

/** Addresses of 2 MiB in [from, to) whose entry is present. */
function blocksIn(tables: KernelTables, slots: readonly Slot[], from: bigint, to: bigint): bigint[] {
  const found: bigint[] = [];
  for (const slot of slots) {
    if (slot.va + GIB <= from || slot.va >= to) continue;
    for (let va = slot.va; va < slot.va + GIB; va += MIB_2)
      if (va >= from && va < to && tables.touches(va)) found.push(va);
  }
  return found;
}
