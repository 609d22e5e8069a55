/** The mappings as table rows. */
import { pageSizeName } from "../dist/maps/leaves.js";
import { mergeRuns } from "../dist/runs.js";

const FILTERS = {
  all: () => true,
  user: ({ rights }) => rights.user,
  kernel: ({ rights }) => !rights.user,
  wx: ({ rights }) => rights.write && rights.execute,
};

/** The first `limit` ranges that pass the filter. */
export function firstRuns(space, filter, limit) {
  const runs = [];
  for (const run of mergeRuns(space.leaves())) {
    if (!FILTERS[filter](run)) continue;
    runs.push(run);
    if (runs.length === limit) break;
  }
  return runs;
}

/** A row for a range, whose addresses have so many digits, and of which the dump knows so much. */
export function runRow({ va, pa, size, pageSize, rights }, digits, presence, onChoose) {
  const hex = (value) => value.toString(16).padStart(digits, "0");
  const flags = `${rights.user ? "u" : "-"}${rights.write ? "w" : "-"}${rights.execute ? "x" : "-"}`;
  const physical = presence === "held" ? hexOf(pa) : `${hexOf(pa)} ${presence}`;
  const row = document.createElement("tr");
  const link = document.createElement("button");
  link.type = "button";
  link.className = "link";
  link.textContent = `${hex(va)} – ${hex(va + size - 1n)}`;
  link.addEventListener("click", onChoose);
  for (const content of [link, sizeText(size), `${size / pageSize} × ${pageSizeName(pageSize)}`, flags, physical]) {
    row.insertCell().append(content);
  }
  if (rights.write && rights.execute) row.className = "wx";
  return row;
}

const hexOf = (value) => `0x${value.toString(16)}`;

function sizeText(size) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = Number(size);
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit]}`;
}
