/** The demonstration page: opens a dump, walks addresses, lists mappings. Uses the package as it is built. */

import { bitOf, CR4 } from "../dist/abi/index.js";
import { openDumpAsync, registersFromDump, UnknownRootError, VmcoreinfoScan } from "../dist/dump/browser.js";
import { explain } from "../dist/explain/index.js";
import { Access, loadSync } from "../dist/index.js";
import { modeTitle, pagingModeOf } from "../dist/maps/mode.js";
import { inspectTables } from "../dist/maps/structure.js";
import { checkItems } from "./checks.js";
import { firstRuns, runRow } from "./mappings.js";
import { indexStrip, outcomeText, stepItem } from "./walk.js";

const EXAMPLE = new URL("../examples/debian-amd64-la57.elf.gz", import.meta.url);
/** More rows than anybody reads. */
const MOST_ROWS = 1000;
/** More mappings than a page goes through. */
const MOST_MAPPINGS = 2 ** 22;
/** An access that is allowed wherever something is mapped: supervisor mode, exempt from SMAP. */
const ANY_ACCESS = Access.Probe | Access.Ac;

const element = (id) => document.getElementById(id);
const core = loadSync();
/** What is open: the dump and a space over it. */
let open;
/** How often the user has chosen a dump. */
let choices = 0;

/** The user has chosen another dump meanwhile: what was to be shown of this one is of no interest. */
class Superseded extends Error {}

/** Opens what `load` gives, Blobs and their names, unless another dump is chosen before that is done. */
function choose(load) {
  const choice = ++choices;
  return guarded(() =>
    openFile(load, () => {
      if (choice !== choices) throw new Superseded();
    }),
  );
}

/** `stillWanted` throws Superseded. */
async function openFile(load, stillWanted) {
  const [[blob, name], ...others] = await load();
  const { dump, fetching } = await openDumpAsync(blob, { name, parts: others.map(([part]) => part) });
  stillWanted();
  const registers = await fetching(() => registersFromDump(dump)).catch((error) => {
    if (!(error instanceof UnknownRootError)) throw error;
    showFacts(dump);
    return searched(dump, fetching, stillWanted);
  });
  const mode = pagingModeOf(registers);
  if (mode === "none") throw new Error(`${name}: paging is off`);
  const memory = core.createMemory({ source: dump.tableSource });
  const { cr0, cr3, cr4, efer, maxPhysAddr, encryptionMask } = registers;
  const config = { cr0, cr3, cr4, efer, maxPhysAddr, encryptionMask, lenient: true };
  let space;
  try {
    space = await fetching(() => {
      stillWanted();
      return core.createAddressSpace(memory, config);
    });
    stillWanted();
  } catch (error) {
    space?.dispose();
    memory.dispose();
    throw error;
  }
  open?.space.dispose();
  open?.memory.dispose();
  open = { dump, fetching, memory, space, mode, registers };
  element("mappings").replaceChildren();
  element("count").textContent = "";
  showFacts(dump, registers, mode);
  await walk(dump.cpus[0]?.rip ?? 0n);
  await showMappings();
}

/** Pages that are searched at once, between two looks at whether the user still wants it. */
const SCAN_STEP = 1024;

/** The registers by VMCOREINFO in the dump's memory. */
async function searched(dump, fetching, stillWanted) {
  const scan = new VmcoreinfoScan(dump);
  for (;;) {
    stillWanted();
    const { found, finished } = await fetching(() => scan.step(SCAN_STEP));
    if (finished) return fetching(() => registersFromDump(dump, { vmcoreinfo: found }));
    // The page stays alive.
    await new Promise((resolve) => setTimeout(resolve));
  }
}

/** What is known of a dump; registers and mode where they are. */
function showFacts(dump, registers, mode) {
  const hex = (value) => `0x${value.toString(16)}`;
  const rows = [
    ["file", dump.name],
    ...dump.facts.map(({ label, value }) => [label, value]),
    ...dump.warnings.map((warning) => ["warning", warning]),
    ...(registers === undefined
      ? []
      : [
          ["mode", modeTitle(mode)],
          ...["cr0", "cr3", "cr4", "efer"].map((name) => [
            name.toUpperCase(),
            hex(registers[name]),
            registers.origin[name],
          ]),
        ]),
  ];
  element("facts").replaceChildren(
    ...rows.flatMap(([label, value, origin]) => {
      const term = document.createElement("dt");
      term.textContent = label;
      const description = document.createElement("dd");
      const code = document.createElement("code");
      code.textContent = value;
      description.append(code);
      if (origin) {
        const hint = document.createElement("span");
        hint.className = "hint";
        hint.textContent = origin;
        description.append(" ", hint);
      }
      return [term, description];
    }),
  );
}

/** What `operation` gives of the open dump; nothing is shown of it once another one is open. */
async function ofOpen(operation) {
  const session = open;
  const stillOpen = () => {
    if (session !== open) throw new Superseded();
  };
  const result = await session.fetching(() => {
    // Its space is disposed with it.
    stillOpen();
    return operation(session);
  });
  stillOpen();
  return result;
}

async function walk(address) {
  const { mode, registers } = open;
  const pse = (registers.cr4 & bitOf(CR4, "PSE")) !== 0n;
  const explanation = await ofOpen(({ space }) => explain(space, address, ANY_ACCESS));
  const found = explanation.walk;
  element("address").value = address.toString(16).padStart(addressDigits(mode), "0");
  element("indices").replaceChildren(...indexStrip(mode, found));
  element("steps").replaceChildren(...found.steps.map((step) => stepItem(mode, step, pse)));
  element("checks").replaceChildren(...checkItems(explanation));
  // What decides a fault is what one looks for.
  if (!found.result.ok) element("checks").parentElement.open = true;
  element("outcome").textContent = outcomeText(found.result);
  element("outcome").className = found.result.ok ? "good" : "bad";
}

/** Says whether a dump has what a range maps; nothing of one that was cut down to its tables. */
function presenceIn({ memory }, { tablesByLevel }) {
  const tables = [...tablesByLevel.values()].reduce((sum, count) => sum + count, 0);
  const { excluded, cut } = memory.lacking;
  if (memory.held.bytes <= tables * 4096 && excluded.bytes + cut.bytes === 0) return () => "held";
  return ({ pa, size }) => memory.presence(pa, size);
}

async function showMappings() {
  const { mode } = open;
  const filter = element("filter").value;
  // Tables that contain themselves, or are not in the dump, have no list.
  const tables = await ofOpen(({ dump, registers }) =>
    inspectTables(dump.tableSource, registers, { maxMappings: MOST_MAPPINGS }),
  );
  const runs = await ofOpen(({ space }) => firstRuns(space, filter, MOST_ROWS + 1));
  const presence = presenceIn(open.dump, tables);
  if (filter !== element("filter").value) return;
  const shown = runs.slice(0, MOST_ROWS);
  element("mappings").replaceChildren(
    ...shown.map((run) => runRow(run, addressDigits(mode), presence(run), () => guarded(() => walk(run.va)))),
  );
  element("count").textContent =
    runs.length > MOST_ROWS ? `the first ${MOST_ROWS} ranges` : `${runs.length} range${runs.length === 1 ? "" : "s"}`;
}

/** Runs an action of the user's and shows what went wrong. */
async function guarded(action) {
  const problem = element("problem");
  problem.hidden = true;
  try {
    await action();
  } catch (error) {
    if (error instanceof Superseded) return;
    problem.textContent = error.message;
    problem.hidden = false;
  }
}

/** Opens a file, and others that are parts of the same dump. */
function chooseFiles(files) {
  const named = [...files].map((file) => [file, file.name]);
  if (named.length > 0) choose(async () => named);
}

async function loadExample() {
  const response = await fetch(EXAMPLE);
  if (!response.ok) throw new Error(`${EXAMPLE.pathname}: ${response.status} ${response.statusText}`);
  return [[await response.blob(), EXAMPLE.pathname.split("/").at(-1)]];
}

/** Hexadecimal digits of a linear address. */
const addressDigits = (mode) => (mode === "32bit" || mode === "pae" ? 8 : 16);

function parseAddress(text) {
  const digits = text.replaceAll(/[\s_`]/g, "").replace(/^0x/i, "");
  if (!/^[0-9a-f]{1,16}$/i.test(digits)) throw new Error(`${text}: expected up to 16 hexadecimal digits`);
  return BigInt(`0x${digits}`);
}

element("file").addEventListener("change", ({ target }) => {
  chooseFiles(target.files);
});
element("example").addEventListener("click", () => choose(loadExample));
element("filter").addEventListener("change", () => open && guarded(showMappings));
element("walk").addEventListener("submit", (event) => {
  event.preventDefault();
  if (open) guarded(() => walk(parseAddress(element("address").value)));
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  chooseFiles(event.dataTransfer.files);
});
choose(loadExample);
