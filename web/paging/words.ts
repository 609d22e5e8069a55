/** Addresses, sizes, rights and places in tables, in words: one notation for all views. */
import { entryName } from "x86-paging/decode";
import { ScanRights } from "x86-paging/maps";

export function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}

/** Digits of a linear address. */
export function addressDigits(mode: string): number {
  return mode === "32bit" || mode === "pae" || mode === "none" ? 8 : 16;
}

export function sizeText(bytes: bigint | number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
  let value = Number(bytes);
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit]}`;
}

/** `uwx`, as the command line writes rights. */
export function rightsLetters(rights: number): string {
  const letter = (right: number, one: string) => ((rights & right) === 0 ? "-" : one);
  return `${letter(ScanRights.User, "u")}${letter(ScanRights.Write, "w")}${letter(ScanRights.Execute, "x")}`;
}

export function rightsWords(rights: number): string {
  return [
    (rights & ScanRights.User) !== 0 ? "user" : "supervisor",
    (rights & ScanRights.Write) !== 0 ? "writable" : "read-only",
    (rights & ScanRights.Execute) !== 0 ? "executable" : "no-execute",
  ].join(", ");
}

/** A table's name, of the level's entries: PML5, PML4, PDPT, PD, PT. */
export function tableName(level: number): string {
  const name = entryName(level).replace(/E$/, "");
  return name === "PDPT" || name.startsWith("PML") || name === "PD" || name === "PT" ? name : `level ${level}`;
}

/** An entry's place in its table, `PML4[511]`: indices are decimal everywhere. */
export function placeText(level: number, index: number): string {
  return `${tableName(level)}[${index}]`;
}

/** How many bits of an address are an index of this level, and the lowest of them. */
export function indexBits(mode: string, level: number): { readonly low: number; readonly width: number } {
  const width = mode === "32bit" ? 10 : 9;
  return { low: 12 + (level - 1) * width, width: mode === "pae" && level === 3 ? 2 : width };
}
