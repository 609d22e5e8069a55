/** What a cell of the map is: its colour by the rights below it, how much of it is mapped, and the same in words. */
import type { DecodedEntry } from "x86-paging/decode";
import { pageSizeName } from "x86-paging/maps";
import { Cell, type SpaceAnswer, type TableAnswer } from "../../engine/dump/answers.js";
import { hex, placeText } from "../../paging/words.js";
import type { GridCell } from "../../ui/cell-grid.jsx";

/** The first address that an entry translates: behind the middle of a root table addresses are sign-extended. */
export function entryVa(
  { va, span }: Pick<TableAnswer, "va" | "span">,
  index: number,
  mode: SpaceAnswer["mode"],
): bigint {
  const address = va + span * BigInt(index);
  if (mode !== "4level" && mode !== "5level") return address;
  return BigInt.asUintN(64, BigInt.asIntN(mode === "4level" ? 48 : 57, address));
}

/** The classes of rights, the most remarkable first. */
export const KINDS: readonly { readonly name: string; readonly flag: number; readonly text: string }[] = [
  { name: "wx", flag: Cell.WriteExecute, text: "writable and executable (W+X)" },
  { name: "user-write", flag: Cell.UserWrite, text: "user, writable" },
  { name: "user", flag: Cell.User, text: "user, read-only" },
  { name: "execute", flag: Cell.Execute, text: "supervisor, executable" },
  { name: "write", flag: Cell.Write, text: "supervisor, writable" },
];

export function cellOf(
  table: TableAnswer,
  index: number,
  entry: DecodedEntry | undefined,
  mode: SpaceAnswer["mode"],
  physical: boolean,
): GridCell {
  const place = `${placeText(table.level, index)} ${hex(entryVa(table, index, mode))}`;
  if (entry === undefined || entry.kind === "not present") {
    const word = table.entries?.[index] ?? 0n;
    return {
      label: `${place}: not present${word === 0n ? "" : ", not zero"}`,
      className: word === 0n ? "empty" : "empty used",
    };
  }
  const what =
    entry.kind === "page"
      ? `${pageSizeName(entry.pageSize!)} page at ${hex(entry.address!)}`
      : `table at ${hex(entry.address!)}`;
  const mapped = table.mapped[index]!;
  const flags = table.flags[index]!;
  if (mapped === 0) return { label: `${place}: ${what}, nothing listed below`, className: "bare" };
  const share = mapped / Number(table.span);
  const found = KINDS.filter(({ flag }) => (flags & flag) !== 0);
  const kind = found[0]?.name ?? "read";
  const huge = (flags & Cell.Huge) !== 0;
  const words = [
    ...(entry.kind === "table" ? [`${percent(share)} mapped`] : []),
    ...(found.length === 0 ? ["supervisor, read-only"] : found.map(({ text }) => text)),
    ...(huge && entry.kind === "table" ? ["large pages"] : []),
  ];
  const lowest = table.physical[index]!;
  return {
    label: `${place}: ${what}; ${words.join("; ")}`,
    className: `${physical ? "physical" : `kind-${kind}`}${huge ? " huge" : ""}`,
    properties: {
      // What is little is seen, too.
      "--fill": `${Math.round(20 + 80 * Math.min(1, share))}%`,
      "--place": `${table.highest === 0 ? 0 : Math.min(1, lowest / table.highest)}`,
    },
  };
}

function percent(share: number): string {
  if (share >= 1) return "all";
  const value = share * 100;
  return value < 0.1 ? "less than 0.1%" : `${value.toFixed(1)}%`;
}
