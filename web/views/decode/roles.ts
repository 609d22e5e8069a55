/** Roles of KVM's shadow pages and vCPUs, in every kernel's layout and this project's. */
import {
  accessText,
  convertRole,
  decodeRole,
  hexRole,
  joinRole,
  layoutOf,
  layoutOfKernel,
  type RoleLayout,
  type RoleWords,
  roleLayouts,
  roleTraceText,
  splitRole,
} from "x86-paging/role";
import type { StripField } from "../../paging/bit-strip.jsx";
import { filled, valueAt } from "../../paging/filled.js";
import type { Decoded, Decoder, EraReading, Options } from "./model.js";

const RIGHTS = /^(access|cr0_wp|efer_nx|nxe|cr4_smep|cr4_smap|smap_andnot_wp|smep_andnot_wp|cr4_pke)$/;
const SHAPE =
  /^(level|quadrant|direct|pae_root|level_promoted|guest_level|passthrough|has_4_byte_gpte|gpte_is_8_bytes)$/;

function fieldsOf(layout: RoleLayout, word: bigint): StripField[] {
  const half = (fields: RoleLayout["base"]["fields"], from: number) =>
    fields.map(({ name, low, width = 1, meaning }) => {
      const value = valueAt(word, low + from, width);
      const text = name === "access" ? { text: accessText(layout, Number(value)) } : {};
      const kind = RIGHTS.test(name) ? ("right" as const) : SHAPE.test(name) ? ("address" as const) : ("kind" as const);
      return { name, low: low + from, width, meaning, kind, ...text };
    });
  const rest = { name: "", meaning: "this layout has no field here" };
  return filled(word, 64, [...half(layout.base.fields, 0), ...half(layout.ext.fields, 32)], rest);
}

function decode(word: bigint, options: Options): Decoded {
  const layout = layoutOfKernel(options.kernel!);
  const role = splitRole(word);
  const { base, ext } = decodeRole(layout, role);
  const access = layout.base.fields.find(({ name }) => name === "access");
  const traceable = access?.width === 3 && "has_4_byte_gpte" in base.fields && "efer_nx" in base.fields;
  const facts: [string, string][] = [];
  if (traceable) facts.push(["in a trace", roleTraceText(role.base)]);
  const unknown = hexRole({ base: base.unknown, ...(ext && { ext: ext.unknown }) });
  if (unknown !== "0x0") facts.push(["unknown", `${unknown}: bits that this layout has no field for`]);
  const { level, access: granted = 0 } = base.fields as { level: number; access?: number };
  return {
    title: `${ext ? "CPU role" : "Page role"}, ${layout.kernels}`,
    summary: `level ${level}, ${base.fields.direct ? "direct" : "shadows a guest's table"}, access ${accessText(layout, granted)}`,
    fields: fieldsOf(layout, word),
    problems: [],
    facts,
    eras: conversions(role, layout),
    source: `${layout.base.source}; ${layout.ext.source}`,
  };
}

/** The role in each layout, with what gets lost on the way. */
function conversions(role: RoleWords, from: RoleLayout): EraReading[] {
  return roleLayouts().map((to) => {
    const { role: converted, lost, assumed, unknown } = convertRole(role, from, to);
    const parts = [
      ...lost.map(({ field, value }) => `lost ${field}=${value}`),
      ...assumed.map((field) => `assumed ${field}=0`),
      ...(hexRole(unknown) === "0x0" ? [] : [`unknown ${hexRole(unknown)}`]),
    ];
    return {
      era: to.era,
      kernels: to.kernels,
      word: joinRole(converted),
      text: parts.length === 0 ? "says the same" : parts.join(", "),
    };
  });
}

export const ROLE_DECODER: Decoder = {
  id: "role",
  group: "KVM",
  title: "Role of a shadow page or a vCPU",
  example: 0x8100003704n,
  options: () => [
    {
      name: "kernel",
      label: "Layout",
      type: "choice",
      values: roleLayouts().map(({ era, kernels }) => ({ value: era, label: kernels })),
    },
  ],
  defaults: { kernel: layoutOf("5.19").era },
  bits: () => 64,
  decode,
};
