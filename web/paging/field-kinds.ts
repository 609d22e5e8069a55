/** What a field of an entry is about, for its colour; `refused`: a bit that must be 0 and is not. */
export type FieldKind = "address" | "right" | "use" | "kind" | "free" | "refused";

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
