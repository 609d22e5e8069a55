/** Entries of paging structures, as a processor reads them. */
import { decodeEntry, type EntryFeatures, type EntryFormat, entryLayout, entryName, levelsOf } from "x86-paging/decode";
import { pageSizeName } from "x86-paging/maps";
import { entryFields } from "../../paging/entry-fields.js";
import { hex } from "../../paging/words.js";
import type { Decoded, Decoder, Option, Options } from "./model.js";

const FORMATS: readonly (readonly [EntryFormat, string])[] = [
  ["4level", "4-level, NPT"],
  ["5level", "5-level, NPT"],
  ["pae", "PAE"],
  ["32bit", "32-bit"],
  ["ept4", "EPT"],
  ["ept5", "EPT, 5 levels"],
];

const formatOf = ({ mode }: Options): EntryFormat => FORMATS.find(([format]) => format === mode)?.[0] ?? "4level";
const isEpt = (format: EntryFormat) => format.startsWith("ept");

/** The level that is chosen, within those of the format. */
function levelOf(options: Options): number {
  return Math.min(Math.max(1, Number(options.level) || 1), levelsOf(formatOf(options)));
}

/** What the processor has, by the switches of the view. */
export function featuresOf(options: Options): EntryFeatures {
  return {
    maxPhysAddr: Number(options.maxphyaddr),
    pse: options.pse === "on",
    pse36: options.pse36 === "on",
    nxe: options.nx === "on",
    page1g: options["1g"] === "on",
    keys: options.keys === "on",
    amdReservedBit8: options.amd === "on",
    modeBasedExecute: options.mbec === "on",
  };
}

function optionsOf(chosen: Options): readonly Option[] {
  const format = formatOf(chosen);
  const levels = Array.from({ length: levelsOf(format) }, (_, index) => levelsOf(format) - index);
  const named = (name: string, label: string): Option => ({ name, label, type: "switch" });
  return [
    {
      name: "mode",
      label: "Format",
      type: "choice",
      values: FORMATS.map(([value, label]) => ({ value, label })),
    },
    {
      name: "level",
      label: "Level",
      type: "choice",
      values: levels.map((level) => ({ value: `${level}`, label: `${level}: ${entryName(level)}` })),
    },
    { name: "maxphyaddr", label: "MAXPHYADDR", type: "number", least: 32, most: 52 },
    ...(format === "32bit" ? [named("pse", "CR4.PSE"), named("pse36", "PSE-36")] : []),
    ...(format === "32bit" || isEpt(format) ? [] : [named("nx", "EFER.NXE")]),
    ...(format === "32bit" || format === "pae" ? [] : [named("1g", "1 GiB pages")]),
    ...(format === "4level" || format === "5level"
      ? [named("keys", "protection keys"), named("amd", "AMD: bit 8 reserved")]
      : []),
    ...(isEpt(format) ? [named("mbec", "mode-based execute control")] : []),
  ];
}

function decode(word: bigint, options: Options): Decoded {
  const format = formatOf(options);
  const level = levelOf(options);
  const features = featuresOf(options);
  const { name, kind, address, pageSize, problems } = decodeEntry(format, level, word, features);
  const layout = entryLayout(format, level, kind, features);
  const where = address === undefined ? "" : ` at ${hex(address)}`;
  const what = pageSize === undefined ? "table" : `${pageSizeName(pageSize)} page`;
  return {
    title: name,
    summary:
      kind === "not present"
        ? `not present${word === 0n ? "" : " (the other bits are the system's own)"}`
        : `${what}${where}${problems.length > 0 ? ", refused" : ""}`,
    fields: entryFields(layout, word),
    problems,
    facts: [],
    source: layout.source,
  };
}

export const ENTRY_DECODER: Decoder = {
  id: "pte",
  group: "Page tables",
  title: "Entry of a paging structure (PTE, EPTE)",
  example: 0x80000001f164867n,
  options: optionsOf,
  defaults: {
    mode: "4level",
    level: "1",
    maxphyaddr: "52",
    pse: "on",
    pse36: "on",
    nx: "on",
    "1g": "on",
    keys: "on",
    amd: "",
    mbec: "",
  },
  bits: (options) => (formatOf(options) === "32bit" ? 32 : 64),
  decode,
};
