/**
 * `npm run test:matrix`: the packed package in fresh projects, one for each runtime, bundler and version of TypeScript, which are
 * installed for it. Names on the command line choose rows (a part of the name is enough). A job of its own: it needs the
 * registry, Chromium, Firefox, and some minutes.
 */
import { pack, temporaryFolder } from "../test/package/packed.js";
import { BUNDLER_ROWS } from "./matrix/bundlers.js";
import { FIREFOX } from "./matrix/firefox.js";
import { Project, type Row } from "./matrix/project.js";
import { RUNTIME_ROWS } from "./matrix/runtimes.js";
import { TYPES_ROWS } from "./matrix/types.js";

/** What `use` gives everywhere. */
const EXPECTED =
  /^(201234 \| ){3}pae \| \d{2,} \| function \| function \| object \| user-mode write: refused by the rights$/;

const wanted = process.argv.slice(2).map((name) => name.toLowerCase());
const rows = [...RUNTIME_ROWS, FIREFOX, ...BUNDLER_ROWS, ...TYPES_ROWS].filter(
  ({ name }) => wanted.length === 0 || wanted.some((part) => name.toLowerCase().includes(part)),
);

async function outcome(row: Row, tarball: string): Promise<string | undefined> {
  const project = new Project(row.name);
  try {
    await project.install(tarball, row);
    const found = (await row.run(project))?.trim();
    if (found === undefined || EXPECTED.test(found)) return undefined;
    return `expected ${EXPECTED.source}, found ${found}`;
  } catch (error) {
    return (error as Error).message;
  } finally {
    project.remove();
  }
}

const folder = temporaryFolder();
const { tarball } = await pack(folder.path);
let failed = 0;
for (const row of rows) {
  const begun = performance.now();
  const problem = await outcome(row, tarball);
  const seconds = ((performance.now() - begun) / 1000).toFixed(0);
  console.log(`${problem === undefined ? "passed" : "FAILED"}  ${row.group.padEnd(8)} ${row.name} (${seconds} s)`);
  if (problem === undefined) continue;
  failed++;
  console.log(
    problem
      .split("\n")
      .slice(-20)
      .map((line) => `          ${line}`)
      .join("\n"),
  );
}
folder.remove();
console.log(`${rows.length - failed} passed, ${failed} failed`);
process.exitCode = failed > 0 || rows.length === 0 ? 1 : 0;
