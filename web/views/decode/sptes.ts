/** KVM's shadow page-table entries, of every kernel era. */
import {
  brokenInvariants,
  type DecodedSpte,
  decodeSpte,
  defaultMasks,
  eptMasks,
  legacyMasks,
  type SpteFormat,
  type SpteLayout,
  type SpteMasks,
  spteEras,
  spteFields,
  spteLayoutOfKernel,
} from "x86-paging/spte";
import type { StripField } from "../../paging/bit-strip.jsx";
import { fieldKind } from "../../paging/field-kinds.js";
import type { Decoded, Decoder, EraReading, Options } from "./model.js";
import { filled, hex } from "./model.js";

const KINDS: Readonly<Record<DecodedSpte["kind"], string>> = {
  none: "empty: not present",
  mmio: "MMIO",
  removed: "a change of a TDP entry is under way",
  "access-tracked": "leaf, rights taken away until the next access",
  leaf: "leaf",
  "non-leaf": "leads to a table",
  pdpte: "PAE page-directory-pointer-table entry",
  "special-root": "entry of a special root table (pae_root, pml4_root, pml5_root)",
  "not-present": "not present, and nothing that KVM stores",
};

const formatOf = ({ format }: Options): SpteFormat => (format === "ept" || format === "npt" ? format : "shadow");

/** The VM's masks, by the switches of the view. */
export function masksOf(options: Options, layout: SpteLayout): SpteMasks {
  const common = { layout, physBits: Number(options.maxphyaddr) };
  if (formatOf(options) !== "ept") return legacyMasks(common);
  return eptMasks({
    ...common,
    accessedDirty: options.ad === "on",
    executeOnly: options["exec-only"] === "on",
    tdx: false,
  });
}

/** Rights as letters, with the user's where the format has them. */
export function rightsText({ rights }: DecodedSpte, format: SpteFormat): string {
  const { read, write, execute, user, userExecute } = rights!;
  const both = userExecute === undefined ? "" : userExecute ? "u" : "-";
  const letters = `${read ? "r" : "-"}${write ? "w" : "-"}${execute ? "x" : "-"}${both}`;
  return format === "ept" ? letters : `${letters} ${user ? "user" : "supervisor"}`;
}

function fieldsOf(decoded: DecodedSpte, layout: SpteLayout, format: SpteFormat): StripField[] {
  const own = decoded.kind === "mmio" ? layout.generation.map(({ field }) => field) : spteFields(layout, format);
  // Where two fields share a place, the later is what the entry has there in this format.
  const known = own.filter(({ low, width = 1 }, index) =>
    own.slice(index + 1).every((other) => other.low + (other.width ?? 1) <= low || low + width <= other.low),
  );
  return filled(
    decoded.word,
    64,
    known
      .filter(({ name }) => name !== "reserved")
      .map(({ name, low, width = 1, meaning }) => ({ name, low, width, meaning, kind: fieldKind(name) })),
    { name: "", meaning: "means nothing in such an entry" },
  );
}

function decode(word: bigint, options: Options): Decoded {
  const format = formatOf(options);
  const layout = spteLayoutOfKernel(options.kernel!);
  const masks = masksOf(options, layout);
  const level = options.level === "" ? undefined : Number(options.level);
  const decoded = decodeSpte(word, {
    kernel: options.kernel!,
    format,
    masks,
    ...(level !== undefined && { level }),
    ...(options.pdpte === "on" && { pdpte: true }),
  });
  const { kind, address, mmio, unknown } = decoded;
  const facts: [string, string][] = [];
  if (mmio) {
    facts.push(["gfn", `${hex(mmio.gfn)} (gpa ${hex(mmio.gfn << 12n)})`]);
    facts.push(["access", `${mmio.access}`], ["generation", `${mmio.generation}`]);
  }
  if (decoded.rights) facts.push(["address", hex(address!)], ["rights", rightsText(decoded, format)]);
  if (unknown !== 0n) facts.push(["unknown", `${hex(unknown)}: bits that mean nothing here`]);
  return {
    title: `SPTE, ${format === "shadow" ? "shadow paging" : format.toUpperCase()}, Linux ${layout.kernels}`,
    summary: kind === "removed" ? `${layout.marker!.word}: ${KINDS.removed}` : KINDS[kind],
    fields: fieldsOf(decoded, layout, format),
    problems: brokenInvariants(word, { masks, level: level ?? (kind === "non-leaf" ? 2 : 1), layout }),
    facts,
    eras: readings(word, format),
    source:
      layout.kernels === spteLayoutOfKernel("6.1").kernels
        ? layout.software.source
        : `${layout.software.source}; where ${layout.kernels} differ, their own mmu.c or spte.h`,
  };
}

/** What the kernels of each era take the word for. */
function readings(word: bigint, format: SpteFormat): EraReading[] {
  return spteEras().map(({ layout }) => {
    const masks = defaultMasks(format, layout.empty !== 0n, layout);
    const decoded = decodeSpte(word, { kernel: layout.era, format, masks });
    const rights = decoded.rights === undefined ? "" : `, ${rightsText(decoded, format)}`;
    const unknown = decoded.unknown === 0n ? "" : `, unknown bits ${hex(decoded.unknown)}`;
    return { era: layout.era, kernels: layout.kernels, text: `${KINDS[decoded.kind]}${rights}${unknown}` };
  });
}

export const SPTE_DECODER: Decoder = {
  id: "spte",
  group: "KVM",
  title: "Shadow page-table entry (SPTE)",
  example: 0x8ab3827n,
  options: (chosen) => [
    {
      name: "kernel",
      label: "Kernel",
      type: "choice",
      values: spteEras().map(({ layout: { era, kernels } }) => ({ value: era, label: kernels })),
    },
    {
      name: "format",
      label: "Format",
      type: "choice",
      values: [
        { value: "shadow", label: "shadow paging" },
        { value: "npt", label: "NPT" },
        { value: "ept", label: "EPT" },
      ],
    },
    {
      name: "level",
      label: "Level",
      type: "choice",
      values: [
        { value: "", label: "not known" },
        ...["1", "2", "3", "4", "5"].map((value) => ({ value, label: value })),
      ],
    },
    { name: "maxphyaddr", label: "Host MAXPHYADDR", type: "number", least: 32, most: 52 },
    ...(formatOf(chosen) === "ept"
      ? ([
          { name: "ad", label: "A/D bits", type: "switch" },
          { name: "exec-only", label: "execute-only entries", type: "switch" },
        ] as const)
      : ([{ name: "pdpte", label: "one of a PAE root's four", type: "switch" }] as const)),
  ],
  defaults: { kernel: "5.13", format: "shadow", level: "", maxphyaddr: "46", pdpte: "", ad: "on", "exec-only": "on" },
  bits: () => 64,
  decode,
};
