/** A fresh project with the packed package and a tool in it, as a user has it. */
import { execFile } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";

export const ROOT = join(import.meta.dirname, "..", "..");

/** A command may take so long. */
const MOST_MINUTES = 5;

export interface Row {
  readonly group: "runtime" | "bundler" | "types";
  readonly name: string;
  /** Packages and versions beside this one. */
  readonly packages: Readonly<Record<string, string>>;
  /** Whether their install scripts may run. */
  readonly scripts?: boolean;
  /** What is built and run: gives what `use` found, or undefined where it has judged that itself; throws where something fails. */
  run(project: Project): Promise<string | undefined>;
}

export class Project {
  readonly path: string;

  constructor(row: string) {
    this.path = mkdtempSync(join(tmpdir(), `matrix-${row.replace(/\W+/g, "-")}-`));
  }

  write(name: string, text: string): void {
    const path = join(this.path, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }

  read(name: string): Buffer {
    return readFileSync(join(this.path, name));
  }

  /** Copies a file of the repository. */
  take(file: string, name = basename(file)): void {
    mkdirSync(dirname(join(this.path, name)), { recursive: true });
    copyFileSync(join(ROOT, file), join(this.path, name));
  }

  async install(tarball: string, row: Row): Promise<void> {
    const dependencies = { "x86-paging": `file:${tarball}`, ...row.packages };
    this.write("package.json", JSON.stringify({ private: true, type: "module", dependencies, source: "index.html" }));
    const quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"];
    await this.command("npm", ["install", ...(row.scripts ? [] : ["--ignore-scripts"]), ...quiet]);
  }

  /** Standard output of a command, with those of the project's packages first; throws with all output where it fails. */
  async command(program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string> {
    const kept = Object.entries(process.env).filter(([name]) => !/^(npm_|NODE_OPTIONS$|FORCE_COLOR$)/i.test(name));
    const bin = join(this.path, "node_modules", ".bin");
    const all = { ...Object.fromEntries(kept), NO_COLOR: "1", CI: "1", PATH: `${bin}:${process.env.PATH}`, ...env };
    const options = { cwd: this.path, env: all, maxBuffer: 2 ** 26, timeout: MOST_MINUTES * 60_000 };
    try {
      return (await promisify(execFile)(program, [...args], options)).stdout;
    } catch (error) {
      const { message, stdout = "", stderr = "" } = error as Error & { stdout?: string; stderr?: string };
      throw new Error(`${message.split("\n")[0]}\n${stdout}${stderr}`.trim());
    }
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
