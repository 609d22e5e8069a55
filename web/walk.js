/** A walk as elements: the address's indices, and each entry as a strip of its fields. */
import { Status } from "../dist/abi/index.js";
import { decodeEntry, entryLayout, entryName, levelsOf, placeOf } from "../dist/decode/index.js";
import { pageSizeName } from "../dist/maps/leaves.js";

/** What a field is about, for its colour. */
const KINDS = {
  right: ["P", "RW", "US", "XD", "PKEY"],
  use: ["A", "D"],
  kind: ["PS", "PAT", "G", "PWT", "PCD"],
};
const kindOf = (name) =>
  name.startsWith("ADDRESS") ? "address" : (Object.keys(KINDS).find((kind) => KINDS[kind].includes(name)) ?? "free");

const make = (name, className, ...children) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
};

/** One field: name, value and place; `width` bits wide. */
function field({ name, value, low, width, kind, meaning }) {
  const place = placeOf({ low, width });
  const shown = width === 1 || value === 0n ? value.toString() : value.toString(16);
  const cell = make("span", `field ${kind}`, make("small", "", place), make("b", "", name), make("code", "", shown));
  if (value === 0n) cell.classList.add("zero");
  cell.title = `bit${width === 1 ? "" : "s"} ${place}: ${meaning}`;
  // Narrow fields would be unreadable in proportion.
  cell.style.flexGrow = String(Math.max(2, width / 2));
  return cell;
}

/** The fields of the linear address: an index for each level, and the offset in the page. */
export function indexStrip(mode, { address, result, steps }) {
  if (!result.ok && steps.length === 0) return [];
  const narrow = mode === "32bit";
  const page = result.ok ? result.pageSize : 4096;
  const offsetBits = Math.log2(page);
  const cells = [];
  for (let level = levelsOf(mode); level >= 1; level--) {
    const low = 12 + (level - 1) * (narrow ? 10 : 9);
    if (low < offsetBits) break;
    const bits = mode === "pae" && level === 3 ? 2 : narrow ? 10 : 9;
    const value = (address >> BigInt(low)) & ((1n << BigInt(bits)) - 1n);
    const name = `${entryName(level)} index`;
    cells.push(
      field({ name, value, low, width: bits, kind: "kind", meaning: `which ${entryName(level)} of its table` }),
    );
  }
  const value = address & BigInt(page - 1);
  const meaning = "offset in the page";
  return [...cells, field({ name: "offset", value, low: 0, width: offsetBits, kind: "address", meaning })];
}

/** One entry: its name, place and value, and its fields from the highest bit to the lowest; `pse` is CR4.PSE. */
export function stepItem(mode, { level, address, entry }, pse) {
  const decoded = decodeEntry(mode, level, entry, { pse });
  const what =
    decoded.kind === "not present"
      ? "not present"
      : `${decoded.kind === "page" ? `${pageSizeName(decoded.pageSize)} page` : "table"} at 0x${decoded.address.toString(16)}`;
  const heading = make("h3", "", decoded.name, make("code", "", ` ${hex(entry, mode)}`), make("span", "hint", what));
  heading.title = `read at 0x${address.toString(16)}`;
  return make("li", "", heading, make("div", "strip", ...entryFields(mode, level, entry, decoded.kind, pse)));
}

/** Every bit of the entry, those that the processor ignores or wants to be 0 too. */
function entryFields(mode, level, entry, kind, pse) {
  return [...entryLayout(mode, level, kind, { pse }).fields].reverse().map(({ name, low, width, use, meaning }) => {
    const value = (entry >> BigInt(low)) & ((1n << BigInt(width)) - 1n);
    const shown = use === "ignored" ? "" : name === "RESERVED" ? "rsvd" : name.replace("ADDRESS_HIGH", "39:32");
    return field({ name: shown, value, low, width, kind: use === "read" ? kindOf(name) : "free", meaning });
  });
}

const hex = (value, mode) => value.toString(16).padStart(mode === "32bit" ? 8 : 16, "0");

/** Where the walk ended, in a line. */
export function outcomeText(result) {
  if (!result.ok) {
    if (result.status === Status.NonCanonical) return "not canonical";
    if (result.status === Status.OutsideMemory) return "a table is not in the dump";
    const what = (result.errorCode & 1n) === 0n ? "is not present" : "forbids it";
    return `page fault: the ${entryName(result.level)} ${what}`;
  }
  const { rights } = result;
  const words = [
    `${pageSizeName(result.pageSize)} page`,
    rights.user ? "user" : "supervisor",
    rights.write ? "writable" : "read-only",
    rights.execute ? "executable" : "no-execute",
  ];
  return `0x${result.pa.toString(16)}: ${words.join(", ")}`;
}
