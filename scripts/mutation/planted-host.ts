/** Mistakes of meaning in the host layer, the listings and the judging of vectors. */
import type { Planted } from "./planted.js";

const at = (path: string) => (rule: string, original: string, text: string) => ({ rule, path, original, text });
const results = at("src/core/results.ts");
const space = at("src/core/space.ts");
const memory = at("src/core/memory.ts");
const cache = at("src/core/page-cache.ts");
const linear = at("src/core/linear-memory.ts");
const config = at("src/core/space-config.ts");
const infoTlb = at("src/maps/info-tlb.ts");
const runs = at("src/runs.ts");
const entry = at("src/maps/entry.ts");
const structure = at("src/maps/structure.ts");
const vector = at("src/conform/run-vector.ts");

export const PLANTED_HOST: readonly Planted[] = [
  results("PAT is bit 7 in every leaf", "level > 1 ? 12n : 7n", "7n"),
  results("the page size is that of 8-byte entries", '(mode === "32bit" ? 10 : 9)', "9"),
  results("keys are reported in every mode", 'mode === "4level" || mode === "5level" ? Number', "true ? Number"),
  results("EPT pages are global", "global: !isEpt(mode) && ", "global: "),
  results("user execute is always execute", "userExecute: ept ? (", "userExecute: false ? ("),
  results("a non-canonical address has no vector", "status === Status.NonCanonical ? 13 :", "false ? 13 :"),

  space("a refused update stays half done", "this.#linear.u8.set(before, this.pointer);", ""),
  space(
    "a refused update keeps its configuration",
    "this.#mode = this.#apply(fields);\n      this.#config = config;",
    "this.#config = config;\n      this.#mode = this.#apply(fields);",
  ),
  space("PDPTEs are not latched", 'if (mode === "pae" && !live) this', 'if (mode === "none" && !live) this'),
  space("given PDPTEs are not checked", "this.#requireGoodPdptes(this.#exports.checkPdptes(this.pointer));", ""),
  space("a batch starts anew behind a missing page", "from + at, to + at, count - done", "from, to, count - done"),
  space("a second stage may lie in another memory", "second !== undefined && second.memory !== memory", "false"),
  space(
    "leaves() of a two-stage space lists the first stage",
    "if (this.#second !== undefined) {\n      throw",
    "if (false) {\n      throw",
  ),
  space("an access may write and fetch", " || (access & exclusive) === exclusive", ""),

  memory(
    "a write that ends outside is begun",
    "for (const piece of this.#pieces(gpa, bytes.length, false)) {",
    "for (const piece of this.#pieces(gpa, Math.min(bytes.length, 4096), false)) {",
  ),
  memory("a read takes one page", "length: Math.min(most, slot.size - offset)", "length: most"),
  memory("read-only is not published", "slot.readOnly ? 1 : 0", "0"),
  memory("slots stay in the caller's order", "slots.sort((a, b) => (a.gpa < b.gpa ? -1 : 1));", ""),
  memory(
    "slots may touch but not overlap by one page",
    "BigInt(slot.size) > next.gpa",
    "BigInt(slot.size) > next.gpa + 4096n",
  ),
  memory("adjacent slots are refused", "BigInt(slot.size) > next.gpa", "BigInt(slot.size) >= next.gpa"),
  memory(
    "a memory that fails keeps what it took",
    "for (const [address, size] of this.#owned) linear.free(address, size);\n      throw",
    "throw",
  ),
  memory(
    "pages of a source begin at their first byte",
    "page: page.subarray(offset, offset + length)",
    "page: page.subarray(0, length)",
  ),

  cache(
    "the cache never forgets",
    "if (this.#used === this.limit || this.#entries >= this.limit * 4) this.#flush();",
    "",
  ),
  cache("absent frames fill the cache", "|| this.#entries >= this.limit * 4", ""),
  cache("the table is filled to its end", "(this.#entries + 1) * 2 > this.#capacity", "this.#entries > this.#capacity"),
  cache(
    "a larger table starts empty",
    "this.exports.insertPage(this.memory, key - 1n,",
    "if (key === 0n) this.exports.insertPage(this.memory, key - 1n,",
  ),
  cache("the buffers stay behind", "for (const address of this.#buffers) this.linear.free(address, PAGE_BYTES);", ""),

  linear("what is handed out again is not zeroed", "this.u8.fill(0, address, address + bytes);", ""),
  linear("alignment is forgotten", "Math.ceil(gap.start / alignment) * alignment;", "gap.start;"),
  linear("what alignment skips is lost", "if (address > gap.start) kept.push({ start: gap.start, end: address });", ""),
  linear("views survive growth", "if (this.#buffer === this.memory.buffer) return;", "return;"),
  linear("a caller's memory grows", "if (!this.#growable) return;", ""),

  config("live PDPTEs are latched under NPT", " | CODES.FEATURE_LIVE_PDPTES", ""),
  config("five-level EPT is refused", "if (levels !== 4n && levels !== 5n) {", "if (levels !== 4n) {"),
  config("EPTP may lie beyond MAXPHYADDR", "if (eptp >> BigInt(maxPhysAddr) !== 0n) {", "if (false) {"),
  config("LMA needs no PAE", 'if (longMode && (fields.cr4 & bitOf(CR4, "PAE")) === 0n)', "if (false)"),
  config(
    "2 MiB EPT pages are always there",
    "((config.page2m ?? true) ? CODES.FEATURE_PAGE_2M : 0)",
    "CODES.FEATURE_PAGE_2M",
  ),

  infoTlb("PAT shows as a large page", 'leaf.level === 1 ? leaf.entry & ~bitOf(PTE, "PS") : leaf.entry', "leaf.entry"),
  infoTlb("addresses have 52 bits", "1n << 50n", "1n << 52n"),
  infoTlb("large pages' addresses begin at their size", "leaf.size / 2n", "leaf.size"),
  infoTlb("letters of all upper halves are one", "| (entry >> 63n === 0n ? 0 : 0x200)", ""),
  runs("runs merge over a gap in physical memory", "leaf.pa === first.pa + size &&", ""),
  runs("runs merge over a gap in linear memory", "leaf.va === first.va + size &&", ""),
  runs("runs merge pages of different sizes", "leaf.size === first.size &&", ""),
  runs("runs merge over rights to execute", "a.execute === b.execute &&", ""),
  runs("the last run is lost", "  if (first !== undefined) yield toRun(first, size);\n}", "}"),
  entry("PSE-36's bits are dropped", " | (((entry >> 13n) & 0xffn) << 32n)", ""),
  entry("PAE PDPTEs map 1 GiB", '(level === 3 && mode !== "pae")', "level === 3"),
  entry("4 MiB pages need no PSE", "return pse;", "return true;"),
  entry("bit 10 makes an EPT entry present", "(entry & 7n) !== 0n", "(entry & 0x407n) !== 0n"),
  structure("a PDPT begins at its page", "first: Number(this.#registers.cr3 & 0xfe0n) / 4", "first: 0"),
  structure("large pages are tables", "return level === 2 || (level === 3", "return (level === 3"),
  structure(
    "cycles behind shared tables are not looked for",
    "if (this.#options.allowCycles !== true) this.#findHiddenCycles();",
    "",
  ),
  structure("a missing table is empty", "if (this.#options.allowMissing !== true) {", "if (false) {"),
  structure("paths to empty tables cost nothing", "this.#checkVisits(counts.visits);", ""),
  structure(
    "execute-disable is looked for in absent entries",
    "if ((low & PRESENT) === 0) continue;\n      const high = format.entrySize === 4 ? 0 : words[first + 2 * index + 1]!;\n      if (high >= 0x8000_0000) this.#executeDisableSeen = true;",
    "const high = format.entrySize === 4 ? 0 : words[first + 2 * index + 1]!;\n      if (high >= 0x8000_0000) this.#executeDisableSeen = true;\n      if ((low & PRESENT) === 0) continue;",
  ),

  vector(
    "entries are not compared",
    "differences.push(...compareEntry(vector, memory, entry));",
    "compareEntry(vector, memory, entry);",
  ),
  vector(
    "a success may leave the flags clear",
    "if (vector.result.ok) return [entry.after];",
    "if (vector.result.ok) return [entry.after, entry.before];",
  ),
  vector("a fault must set what a processor set", "[entry.before, entry.after];", "[entry.after];"),
  vector("EFLAGS.AC is dropped", "(vector.ac ? Access.Ac : 0)", "0"),
  vector("the error code is not compared", "const errorCode = hex(result.errorCode!);", 'const errorCode = "";'),
  vector("CR2 is not compared", `#PF(\${errorCode}) at \${hex(result.cr2!)}`, `#PF(\${errorCode})`),
  vector("the mode is not compared", "if (space.mode !== vector.mode) differences", "if (false) differences"),
  vector(
    "#GP at MOV CR3 satisfies every fault",
    "!vector.result.ok && vector.result.vector === 13) return;",
    "!vector.result.ok) return;",
  ),
  vector("PKRU is not given", "      pkru,\n", ""),
];
