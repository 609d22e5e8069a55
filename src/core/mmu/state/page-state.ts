/**
 * The shadow pages of a VM in a state: headers, tables and translations of those in use, the lists and chains that they are in,
 * the rmap blocks, and what is in stock. Nothing in it is an address but where blocks lay, which are places to ask for: with
 * the same places the tables, which SPTEs and events name, are where they were.
 */
import { SHADOW_CODES } from "../../../abi/shadow.js";
import { StateError } from "../../../errors.js";
import { ROLE_DIRECT, ROLE_LEVEL_PROMOTED, ROLE_PAE_ROOT, roleLevel } from "../../../role/index.js";
import type { StateReader } from "../../../state/format/reader.js";
import type { StateWriter } from "../../../state/format/writer.js";
import type { LinearMemory } from "../../linear/linear-memory.js";
import { DescRecord, SpRecord, VM_OFFSET, type VmRecord } from "../../records/mmu.js";
import { LEAST_BITS, STEP } from "../gfn-chains.js";
import { linkedPages, linkPages } from "../linked-pages.js";
import type { MmuCore } from "../mmu-core.js";
import type { Block, PageMemory } from "../page-memory.js";
import { bucketOf } from "../shadow-pages.js";
import type { TdpCore } from "../tdp-core.js";
import { Once, Pieces, readBlocks } from "./pieces.js";
import { ENTRIES, entryAddress, entryNumber, readRmap, writeRmap } from "./rmap-state.js";
import { readTable, readTranslations, type TableForm, writeTable, writeTranslations } from "./table-state.js";

const { LOW_LATCHED } = SHADOW_CODES;
const TABLE_BYTES = 4096;
/** Fields of a header that are numbers, and say by themselves what they mean. */
const FIELDS = [
  ...(["role", "rootCount", "generation", "unsync", "unsyncChildren", "flood", "low"] as const),
  ...(["forbidden", "noHuge", "current", "gap", "tdp"] as const),
];
const PDPTES = 4;
const BITMAP_WORDS = 8;
/** TDP_PAGE bits. */
const MOST_TDP = 3;
const NONE = 0xffff_ffff;

/** Pages that wait in the caches, by their linear addresses, the next one last. */
export interface StockPieces {
  readonly tables: readonly number[];
  readonly arrays: readonly number[];
  readonly headers: readonly number[];
  /** The table for the low zone, 0 for none. */
  readonly low: number;
}

/** What shadow pages are made of, by number. */
export class PagePieces {
  readonly linear: LinearMemory;
  readonly tables: Pieces;
  readonly arrays: Pieces;
  readonly headers: Pieces;
  readonly descs: Pieces;
  /** Which are in use. */
  readonly usedTables: Once;
  readonly usedArrays: Once;
  readonly usedHeaders: Once;
  readonly usedDescs: Once;
  /** Those that wait in the TDP MMU's pool: they are no pages. */
  readonly pooled = new Set<number>();

  constructor(linear: LinearMemory, { blocks }: PageMemory) {
    this.linear = linear;
    this.tables = new Pieces(blocks.tables, TABLE_BYTES);
    this.arrays = new Pieces(blocks.arrays, TABLE_BYTES);
    this.headers = new Pieces(blocks.headers, SpRecord.SIZE);
    this.descs = new Pieces(blocks.descs, DescRecord.SIZE);
    this.usedTables = new Once(this.tables.count, "table");
    this.usedArrays = new Once(this.arrays.count, "array of translations");
    this.usedHeaders = new Once(this.headers.count, "page");
    this.usedDescs = new Once(this.descs.count, "rmap block");
  }

  /** The number of a page plus 1, 0 for none. */
  pageNumber(page: number): number {
    return page === 0 ? 0 : this.headers.numberOf(page) + 1;
  }

  /** A page by that number, 0 for none. Throws StateError where it is not in use. */
  page(number: number): number {
    if (number === 0) return 0;
    const page = this.#inUse(number - 1);
    if (this.pooled.has(page)) throw new StateError(`the state names page ${number - 1}, which is in the pool`);
    return page;
  }

  /** One of a list of pages. Throws StateError. */
  listed(number: number, pooled: boolean): number {
    return pooled ? this.#inUse(number) : this.page(number + 1);
  }

  #inUse(number: number): number {
    if (!this.usedHeaders.isNamed(number)) throw new StateError(`the state names page ${number}, which is not in use`);
    return this.headers.addressOf(number);
  }
}

/** Writes them; what the rest of the state names pages by. */
export function writePages(
  out: StateWriter,
  core: MmuCore,
  memory: PageMemory,
  tdp: TdpCore | undefined,
  stock: StockPieces,
): PagePieces {
  const { linear } = core.internals;
  const pieces = new PagePieces(linear, memory);
  const { tables, arrays, headers, descs } = pieces;
  for (const one of [tables, arrays, headers, descs]) one.write(out);
  out.u32(memory.sizes.map);
  out.u32(memory.sizes.chains);
  for (const { address } of memory.places) out.u32(address);
  const inUse = (number: number) => core.pages.pageOfTable(tables.addressOf(number));
  const used = Array.from({ length: tables.count }, (_, number) => number).filter((number) => inUse(number) !== 0);
  const pool = tdp?.pool() ?? [];
  const inPool = new Set(pool);
  out.list(used, (number) => {
    const page = inUse(number);
    out.u32(number);
    out.u32(headers.numberOf(page));
    out.flag(inPool.has(page));
    if (!inPool.has(page)) writeHeader(out, pieces, new SpRecord(linear, page));
  });
  // Links lead to tables that have to be known.
  for (const number of used) {
    const page = inUse(number);
    if (inPool.has(page)) continue;
    const { role, shadowed, parents } = new SpRecord(linear, page);
    writeTable(out, linear, tables.addressOf(number), tables, formOf(core.vm, role));
    if (shadowed !== 0) writeTranslations(out, linear, shadowed);
    writeRmap(out, pieces, parents);
  }
  const list = (pages: readonly number[]) => out.list(pages, (page) => out.u32(headers.numberOf(page)));
  for (const pages of [
    linkedPages(linear, core.vm.at + VM_OFFSET.active),
    linkedPages(linear, core.vm.at + VM_OFFSET.invalid),
  ]) {
    list(pages);
  }
  if (tdp !== undefined) for (const pages of [tdp.roots(), tdp.tables(), pool]) list(pages);
  list(chained(linear, core.vm, memory.sizes.chains));
  list(memory.hash.pages());
  const desc = new DescRecord(linear, core.vm.descFree);
  const free: number[] = [];
  for (; desc.at !== 0; desc.at = desc.more) free.push(desc.at);
  out.list(free, (at) => out.u32(descs.numberOf(at)));
  out.list(stock.tables, (at) => out.u32(tables.numberOf(at)));
  out.list(stock.arrays, (at) => out.u32(arrays.numberOf(at)));
  list(stock.headers);
  out.u32(stock.low === 0 ? NONE : tables.numberOf(stock.low));
  return pieces;
}

function formOf(vm: VmRecord, role: number): TableForm {
  const paeRoot = (role & ROLE_PAE_ROOT) !== 0;
  return {
    level: roleLevel(role),
    empty: paeRoot ? 0n : vm.empty,
    defaultPdpte: paeRoot && vm.defaultPdpte !== 0 ? vm.pdpteValue : 0n,
  };
}

function writeHeader(out: StateWriter, { tables, arrays }: PagePieces, sp: SpRecord): void {
  out.u32(sp.shadowed === 0 ? NONE : arrays.numberOf(sp.shadowed));
  out.u64(sp.gfn);
  for (const name of FIELDS) out.u32(sp[name]);
  for (let index = 0; index < PDPTES; index++) out.u64(latches(sp.low) ? sp.pdptes(index) : 0n);
  for (let index = 0; index < BITMAP_WORDS; index++) out.u64(sp.unsyncBitmap(index));
  out.u32(sp.tdp === 0 || sp.sptep === 0 ? NONE : entryNumber(tables, sp.sptep));
}

const latches = (low: number) => (low & LOW_LATCHED) !== 0;

/** Pages in the order of their buckets and chains. */
function chained(linear: LinearMemory, vm: VmRecord, bits: number): number[] {
  const pages: number[] = [];
  const sp = new SpRecord(linear, 0);
  for (let bucket = 0; bucket < 2 ** bits; bucket++) {
    for (sp.at = linear.u32[(vm.chains >>> 2) + bucket]!; sp.at !== 0; sp.at = sp.chain) pages.push(sp.at);
  }
  return pages;
}

/** Fills the page memory of a VM that has no page yet. Throws StateError and OutOfMemoryError. */
export function readPages(
  from: StateReader,
  core: MmuCore,
  memory: PageMemory,
  tdp: TdpCore | undefined,
): { readonly pieces: PagePieces; readonly stock: StockPieces } {
  const { linear } = core.internals;
  takeBlocks(from, linear, memory);
  const pieces = new PagePieces(linear, memory);
  const { tables, headers, usedDescs } = pieces;
  const pages = readHeaders(from, core, memory, pieces);
  const levels = new Map(pages.map(({ table, level }) => [table, level]));
  for (const { page, table, pooled, sptep } of pages) {
    if (pooled) continue;
    const sp = new SpRecord(linear, page);
    if (sptep !== NONE && sp.tdp === 0) throw new StateError("the state has an entry that leads to a root");
    sp.sptep = sptep === NONE ? 0 : entryAddress(tables, pieces.usedTables, sptep);
    const form = formOf(core.vm, sp.role);
    readTable(
      from,
      linear,
      tables.addressOf(table),
      tables,
      pieces.usedTables,
      form,
      (number) => levels.get(number) ?? 0,
    );
    if (sp.shadowed !== 0) readTranslations(from, linear, sp.shadowed);
    const parents = readRmap(from, pieces, pieces.usedTables, usedDescs);
    if (sp.tdp !== 0 && parents !== 0) throw new StateError("the state has parents of a page of the TDP MMU");
    sp.parents = parents;
  }
  const listed = new Once(headers.count, "page in a list");
  const list = (kind: "shadow" | "tdp" | "pool", once: Once) => {
    return from.list(4, () => {
      const number = once.name(from.u32());
      const page = pieces.listed(number, kind === "pool");
      const found = pieces.pooled.has(page) ? "pool" : new SpRecord(linear, page).tdp === 0 ? "shadow" : "tdp";
      if (found !== kind)
        throw new StateError(`the state has page ${number}, of kind ${found}, in a list of ${kind} pages`);
      return page;
    });
  };
  linkPages(linear, core.vm.at + VM_OFFSET.active, list("shadow", listed));
  linkPages(linear, core.vm.at + VM_OFFSET.invalid, list("shadow", listed));
  if (tdp !== undefined) {
    const [roots, below] = [list("tdp", listed), list("tdp", listed)];
    const leads = (page: number) => new SpRecord(linear, page).sptep !== 0;
    if (roots.some(leads) || !below.every(leads)) throw new StateError("the state has a root below another page");
    tdp.adopt(roots, below, list("pool", listed));
  } else if (pages.some(({ page, pooled }) => pooled || new SpRecord(linear, page).tdp !== 0)) {
    throw new StateError("the state has pages of a TDP MMU, and the virtual machine has none");
  }
  if (
    pages.some(
      ({ page, pooled, number }) => (pooled || new SpRecord(linear, page).tdp !== 0) && !listed.isNamed(number),
    )
  ) {
    throw new StateError("the state has a page of the TDP MMU in no list");
  }
  chain(linear, core.vm, list("shadow", new Once(headers.count, "page in a chain")));
  for (const page of list("shadow", new Once(headers.count, "page in the hash"))) memory.hash.insert(page);
  freeDescs(
    linear,
    core.vm,
    from.list(4, () => pieces.descs.addressOf(usedDescs.name(from.u32()))),
  );
  const stock = readStock(from, pieces);
  return { pieces, stock };
}

/** Takes as many blocks as the state has, where they lay if that is free. */
function takeBlocks(from: StateReader, linear: LinearMemory, memory: PageMemory): void {
  // Linear memory has 4 GiB.
  const most = 2 ** 32;
  const kinds = [TABLE_BYTES, TABLE_BYTES, SpRecord.SIZE, DescRecord.SIZE].map((size) => {
    return { size, blocks: readBlocks(from, size, most, "pieces of shadow pages") };
  });
  const [tables, arrays, headers, descs] = kinds;
  const map = from.integer(0, 2 ** 21, "tables in the map");
  const count = headers!.blocks.reduce((sum, block) => sum + block.count, 0);
  const chains = from.integer(LEAST_BITS, 30, "bits of a bucket's number");
  if ((chains - LEAST_BITS) % STEP !== 0 || (chains > LEAST_BITS && count * 4 < 2 ** chains)) {
    throw new StateError(`the state has 2^${chains} buckets for ${count} pages`);
  }
  const places = [{ address: from.u32(), size: 4 << chains }];
  if (map !== 0) places.push({ address: from.u32(), size: 4 * map });
  memory.resize({ map, chains }, places);
  const take = ({ size, blocks }: { size: number; blocks: readonly Block[] }, each: (count: number) => unknown) => {
    for (const { address, count: pieces } of blocks) {
      linear.atPlaces([{ address, size: pieces * size }], () => each(pieces));
    }
  };

  take(tables!, (pieces) => memory.tables(pieces));
  take(arrays!, (pieces) => memory.arrays(pieces));
  take(headers!, (pieces) => memory.headers(pieces));
  take(descs!, (pieces) => memory.addDescs(pieces));
  memory.isPlaced = tables!.blocks.every(({ address }, index) => memory.blocks.tables[index]!.address === address);
}

interface ReadPage {
  readonly table: number;
  readonly number: number;
  readonly page: number;
  readonly pooled: boolean;
  /** 0 of a page in the pool. */
  readonly level: number;
  readonly sptep: number;
}

function readHeaders(from: StateReader, core: MmuCore, memory: PageMemory, pieces: PagePieces): ReadPage[] {
  const { linear } = core.internals;
  const { tables, arrays, headers, usedTables, usedArrays, usedHeaders } = pieces;
  return from.list(9, () => {
    const table = usedTables.name(from.u32());
    const number = usedHeaders.name(from.u32());
    const page = headers.addressOf(number);
    const pooled = from.flag("a page of the pool");
    if (pooled) {
      memory.bind(page, tables.addressOf(table), 0);
      pieces.pooled.add(page);
      return { table, number, page, pooled, level: 0, sptep: NONE };
    }
    const array = from.u32();
    const at = array === NONE ? 0 : arrays.addressOf(usedArrays.name(array));
    memory.bind(page, tables.addressOf(table), at);
    const sp = new SpRecord(linear, page);
    sp.gfn = from.u64();
    for (const name of FIELDS) sp[name] = from.u32();
    for (let index = 0; index < PDPTES; index++) sp.setPdptes(index, from.u64());
    for (let index = 0; index < BITMAP_WORDS; index++) sp.setUnsyncBitmap(index, from.u64());
    const sptep = from.u32();
    checkHeader(sp, core.vm);
    return { table, number, page, pooled, level: roleLevel(sp.role), sptep };
  });
}

/** What the core rests on wherever it takes a page. */
function checkHeader(sp: SpRecord, vm: VmRecord): void {
  const { role, low, tdp, shadowed } = sp;
  const level = roleLevel(role);
  const direct = (role & ROLE_DIRECT) !== 0;
  const translations = (role & (ROLE_DIRECT | ROLE_LEVEL_PROMOTED)) === 0 && (low & LOW_LATCHED) === 0;
  const flags = [sp.unsync, sp.generation].every((flag) => flag <= 1) && sp.unsyncChildren <= ENTRIES;
  const fits = level >= 1 && level <= 5 && flags && tdp <= MOST_TDP && (tdp === 0 || (direct && vm.tdpMmu !== 0));
  if (fits && translations === (shadowed !== 0)) return;
  throw new StateError(`the state has a page of role 0x${role.toString(16)} that cannot be`);
}

/** Puts pages into their buckets, the first one of each in front. */
function chain(linear: LinearMemory, vm: VmRecord, pages: readonly number[]): void {
  const last = new Map<number, SpRecord>();
  for (const page of pages) {
    const sp = new SpRecord(linear, page);
    sp.chain = 0;
    const bucket = bucketOf(sp.gfn, vm.chainShift);
    const before = last.get(bucket);
    if (before === undefined) linear.u32[(vm.chains >>> 2) + bucket] = page;
    else before.chain = page;
    last.set(bucket, sp);
  }
}

function freeDescs(linear: LinearMemory, vm: VmRecord, free: readonly number[]): void {
  vm.descFree = free[0] ?? 0;
  vm.descCount = free.length;
  free.forEach((at, index) => {
    new DescRecord(linear, at).more = free[index + 1] ?? 0;
  });
}

function readStock(from: StateReader, pieces: PagePieces): StockPieces {
  const { tables, arrays, headers } = pieces;
  const list = (of: Pieces, used: Once) => from.list(4, () => of.addressOf(used.name(from.u32())));
  const stock = {
    tables: list(tables, pieces.usedTables),
    arrays: list(arrays, pieces.usedArrays),
    headers: list(headers, pieces.usedHeaders),
  };
  const low = from.u32();
  return { ...stock, low: low === NONE ? 0 : tables.addressOf(pieces.usedTables.name(low)) };
}
