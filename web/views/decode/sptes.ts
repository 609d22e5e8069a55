/** KVM's shadow page-table entries, of every kernel era. */
import {
  brokenInvariants,
  decodeSpte,
  defaultMasks,
  eptMasks,
  legacyMasks,
  type SpteFormat,
  type SpteLayout,
  type SpteMasks,
  spteEras,
  spteKindText,
  spteLayoutOfKernel,
  spteRightsText,
} from "x86-paging/spte";
import { spteStrip } from "../../paging/spte-strip.js";
import { hex } from "../../paging/words.js";
import type { Decoded, Decoder, EraReading, Options } from "./model.js";

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
  if (decoded.rights) facts.push(["address", hex(address!)], ["rights", spteRightsText(decoded.rights, format)]);
  if (unknown !== 0n) facts.push(["unknown", `${hex(unknown)}: bits that mean nothing here`]);
  return {
    title: `SPTE, ${format === "shadow" ? "shadow paging" : format.toUpperCase()}, Linux ${layout.kernels}`,
    summary: spteKindText(decoded, layout),
    fields: spteStrip(decoded, layout, format),
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
    const rights = decoded.rights === undefined ? "" : `, ${spteRightsText(decoded.rights, format)}`;
    const unknown = decoded.unknown === 0n ? "" : `, unknown bits ${hex(decoded.unknown)}`;
    return { era: layout.era, kernels: layout.kernels, text: `${spteKindText(decoded, layout)}${rights}${unknown}` };
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
