/** The package as `npm pack` makes it, and a project that has it installed, without any network. */
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, string | Target>>;
}

/** What an entry is, and what it is on another platform. */
interface Target {
  readonly types: string;
  readonly default: string;
  readonly workerd?: Target;
}

export const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Manifest;

/** Modules among the entries: what users import and where that is, e.g. `x86-paging/dump` and `dist/dump/browser.js`. */
export const ENTRIES = Object.entries(manifest.exports).flatMap(([name, target]) =>
  typeof target === "string" || target.default.endsWith(".wasm")
    ? []
    : [{ name: join(manifest.name, name), file: target.default.replace("./", "") }],
);

/** The files of every export. */
export const EXPORTED: readonly string[] = Object.values(manifest.exports).flatMap((target) =>
  typeof target === "string" ? [target] : filesOf(target),
);

function filesOf(target: Target): string[] {
  return [target.types, target.default, ...(target.workerd === undefined ? [] : filesOf(target.workerd))];
}

/** The file of an entry, e.g. of `x86-paging/role`. */
export function entryFile(name: string): string {
  const entry = ENTRIES.find((one) => one.name === name);
  if (entry === undefined) throw new Error(`package.json exports no ${name}`);
  if (!existsSync(join(ROOT, entry.file))) throw new Error(`${entry.file} is missing: npm run build first`);
  return entry.file;
}

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program, without colours and without what an npm around this run has put into the environment. */
export async function runProgram(program: string, args: readonly string[], cwd: string): Promise<Output> {
  const kept = Object.entries(process.env).filter(([name]) => !/^(npm_|NODE_OPTIONS$|FORCE_COLOR$)/i.test(name));
  const env = { ...Object.fromEntries(kept), NO_COLOR: "1" };
  try {
    const options = { cwd, env, maxBuffer: 2 ** 26, timeout: 120_000 };
    return { code: 0, ...(await promisify(execFile)(program, [...args], options)) };
  } catch (error) {
    const { code, stdout, stderr } = error as Output;
    if (typeof code !== "number") throw error;
    return { code, stdout, stderr };
  }
}

/** The same, of a command among the development dependencies. */
export function runTool(tool: string, args: readonly string[], cwd: string): Promise<Output> {
  return runProgram(join(ROOT, "node_modules", ".bin", tool), args, cwd);
}

async function succeed(program: string, args: readonly string[], cwd: string): Promise<string> {
  const { code, stdout, stderr } = await runProgram(program, args, cwd);
  if (code !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${code}\n${stdout}${stderr}`);
  return stdout;
}

export function temporaryFolder(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), "x86-paging-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

export interface PackedFile {
  readonly path: string;
  readonly size: number;
}

/** Packs what has been built into `folder`. */
export async function pack(folder: string): Promise<{ tarball: string; files: readonly PackedFile[] }> {
  entryFile(manifest.name);
  // The build is not repeated: other tests are using it.
  const args = ["pack", "--ignore-scripts", "--json", "--pack-destination", folder];
  const [packed] = JSON.parse(await succeed("npm", args, ROOT)) as { filename: string; files: PackedFile[] }[];
  return { tarball: join(folder, packed!.filename), files: packed!.files };
}

/** Makes `folder` a project and installs the tarball, with the dependencies of this repository, as npm does it. */
export async function install(tarball: string, folder: string): Promise<void> {
  const dependencies: Record<string, string> = { [manifest.name]: `file:${tarball}` };
  // npm takes them for what the package asks for if their versions fit.
  for (const path of closure(ROOT, Object.keys(manifest.dependencies))) {
    const { name } = JSON.parse(readFileSync(join(path, "package.json"), "utf8")) as { name: string };
    if (name in dependencies) throw new Error(`two versions of ${name}: a flat project cannot have both`);
    dependencies[name] = `file:${path}`;
  }
  writeFileSync(join(folder, "package.json"), JSON.stringify({ private: true, type: "module", dependencies }));
  const quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--no-update-notifier"];
  await succeed("npm", ["install", "--offline", "--ignore-scripts", "--install-links", ...quiet], folder);
}

/** Folders of the named packages, as seen from the package at `from`, and of all that they depend on. */
function closure(from: string, names: readonly string[], found = new Set<string>()): Set<string> {
  for (const name of names) {
    const path = packageFolder(from, name);
    if (found.has(path)) continue;
    found.add(path);
    const { dependencies = {} } = JSON.parse(readFileSync(join(path, "package.json"), "utf8")) as Partial<Manifest>;
    closure(path, Object.keys(dependencies), found);
  }
  return found;
}

function packageFolder(from: string, name: string): string {
  for (let folder = from; folder !== dirname(folder); folder = dirname(folder)) {
    const path = join(folder, "node_modules", name);
    if (existsSync(path)) return path;
  }
  throw new Error(`${name} is not installed`);
}
