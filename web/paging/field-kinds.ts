/** What a field of an entry is about, for its colour. */
export type FieldKind = "address" | "right" | "use" | "kind" | "free";

const NAMES: Readonly<Record<"right" | "use" | "kind", readonly string[]>> = {
  right: ["P", "RW", "US", "XD", "PKEY", "R", "W", "X", "XU"],
  use: ["A", "D"],
  kind: ["PS", "PAT", "G", "PWT", "PCD", "MEMTYPE", "IPAT"],
};

export function fieldKind(name: string): FieldKind {
  if (name.startsWith("ADDRESS")) return "address";
  for (const kind of ["right", "use", "kind"] as const) if (NAMES[kind].includes(name)) return kind;
  return "free";
}
