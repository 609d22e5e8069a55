/** The playground's machine as it begins: a few tables in each paging mode, and what of it stands in a link. */
import { bitOf, CR0, CR4, EFER, PTE } from "x86-paging/abi";

export const MODES = ["4level", "pae", "32bit"] as const;
export type PlayMode = (typeof MODES)[number];

export interface Registers {
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
}

/** Everything that a machine is before somebody uses it: registers, and the words of memory that are not zero. */
export interface Setup {
  readonly mode: PlayMode;
  readonly registers: Registers;
  /** By physical address. */
  readonly words: ReadonlyMap<number, bigint>;
}

/** Bytes of RAM, from physical address 0 on. */
export const RAM = 0x400000;
/** Where the root table lies. */
export const ROOT = 0x1000;

const P = bitOf(PTE, "P");
const RW = bitOf(PTE, "RW");
const US = bitOf(PTE, "US");
const PS = bitOf(PTE, "PS");
const XD = bitOf(PTE, "XD");
const LEADS = P | RW | US;

const BASE_CR0 = bitOf(CR0, "PE") | bitOf(CR0, "PG") | bitOf(CR0, "WP");

/** Words in a table. */
function entries(table: number, size: 4 | 8, words: Readonly<Record<number, bigint>>): [number, bigint][] {
  return Object.entries(words).map(([index, word]) => [table + Number(index) * size, word]);
}

/** Pages of every kind, by linear address: 0x4000 user, 0x5000 user but read-only, 0x6000 the system's, 0x7000 the system's code. */
function pages(xd: bigint): Record<number, bigint> {
  return {
    4: 0x104000n | P | RW | US | xd,
    5: 0x105000n | P | US | xd,
    6: 0x106000n | P | RW | xd,
    7: 0x107000n | P,
    8: 0x108000n | P | US,
  };
}

/** The machine that a mode begins with. */
export function beginning(mode: PlayMode): Setup {
  const cr3 = BigInt(ROOT);
  if (mode === "32bit") {
    const words = [...entries(ROOT, 4, { 0: 0x2000n | LEADS, 1: 0x0n | LEADS | PS }), ...entries(0x2000, 4, pages(0n))];
    return { mode, registers: { cr0: BASE_CR0, cr3, cr4: bitOf(CR4, "PSE"), efer: 0n }, words: new Map(words) };
  }
  const upper =
    mode === "pae"
      ? entries(ROOT, 8, { 0: 0x3000n | P })
      : [...entries(ROOT, 8, { 0: 0x2000n | LEADS }), ...entries(0x2000, 8, { 0: 0x3000n | LEADS })];
  const words = [
    ...upper,
    ...entries(0x3000, 8, { 0: 0x4000n | LEADS, 1: 0x200000n | LEADS | PS | XD }),
    ...entries(0x4000, 8, pages(XD)),
  ];
  const long = mode === "4level" ? bitOf(EFER, "LME") | bitOf(EFER, "LMA") : 0n;
  const efer = long | bitOf(EFER, "NXE");
  return { mode, registers: { cr0: BASE_CR0, cr3, cr4: bitOf(CR4, "PAE"), efer }, words: new Map(words) };
}

/** What a link says of a machine: what differs from the beginning of its mode. */
export function linkOf({ mode, registers, words }: Setup): Record<string, string> {
  const begun = beginning(mode);
  const link: Record<string, string> = { mode };
  for (const name of ["cr0", "cr3", "cr4", "efer"] as const) {
    if (registers[name] !== begun.registers[name]) link[name] = registers[name].toString(16);
  }
  const places = new Set([...words.keys(), ...begun.words.keys()]);
  const changed = [...places].filter((place) => (words.get(place) ?? 0n) !== (begun.words.get(place) ?? 0n));
  if (changed.length > 0) {
    const texts = changed
      .sort((a, b) => a - b)
      .map((place) => `${place.toString(16)}-${(words.get(place) ?? 0n).toString(16)}`);
    link.words = texts.join(".");
  }
  return link;
}

/** The machine that a link means; throws a RangeError for one that means none. */
export function setupOf(link: Readonly<Record<string, string>>): Setup {
  const mode = MODES.find((one) => one === link.mode) ?? MODES[0];
  const begun = beginning(mode);
  const register = (name: keyof Registers) => (link[name] === undefined ? begun.registers[name] : hexOf(link[name]));
  const words = new Map(begun.words);
  for (const text of link.words === undefined ? [] : link.words.split(".")) {
    const [place = "", word = ""] = text.split("-");
    const address = Number(hexOf(place));
    if (address % (mode === "32bit" ? 4 : 8) !== 0 || address >= RAM)
      throw new RangeError(`${place}: expected the address of a word in memory`);
    const value = hexOf(word);
    if (mode === "32bit" && value >> 32n !== 0n) throw new RangeError(`${word}: expected 32 bits`);
    words.set(address, value);
  }
  return {
    mode,
    registers: { cr0: register("cr0"), cr3: register("cr3"), cr4: register("cr4"), efer: register("efer") },
    words,
  };
}

function hexOf(text: string): bigint {
  if (!/^[0-9a-f]{1,16}$/i.test(text)) throw new RangeError(`${text.slice(0, 40)}: expected a hexadecimal number`);
  return BigInt(`0x${text}`);
}
