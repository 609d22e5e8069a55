/** A copy of the repository to plant mistakes in; the original is only read. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const COPIED = ["assembly", "src", "test", "scripts", "examples", "web"];
const FILES = /\.(?:json|md|ts)$/;

export class Tree {
  readonly root = mkdtempSync(join(tmpdir(), "x86-paging-mutants-"));

  constructor() {
    for (const folder of COPIED) cpSync(join(ROOT, folder), join(this.root, folder), { recursive: true });
    for (const name of readdirSync(ROOT).filter((one) => FILES.test(one)))
      cpSync(join(ROOT, name), join(this.root, name));
    symlinkSync(join(ROOT, "node_modules"), join(this.root, "node_modules"));
    mkdirSync(join(this.root, "build"), { recursive: true });
  }

  dispose(): void {
    rmSync(this.root, { recursive: true, force: true });
  }

  read(path: string): string {
    return readFileSync(join(this.root, path), "utf8");
  }

  write(path: string, text: string): void {
    writeFileSync(join(this.root, path), text);
  }

  /** Files below `prefix` (a file's own path too), in order. */
  files(prefix: string): string[] {
    if (prefix.endsWith(".ts")) return [prefix];
    return readdirSync(join(this.root, prefix), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts") && !name.endsWith(".generated.ts"))
      .map((name) => join(prefix, name))
      .sort();
  }

  /** Writes assembly/abi from src/abi; false where a mistake in src/abi makes that fail. */
  generate(): boolean {
    return this.#run(join("node_modules", "tsx", "dist", "cli.mjs"), join("scripts", "generate-abi.ts"));
  }

  /** Puts `wasm` where the host layer takes it from. */
  inline(wasm: Uint8Array): void {
    writeFileSync(join(this.root, "build", "core.wasm"), wasm);
    this.#run(join("node_modules", "tsx", "dist", "cli.mjs"), join("scripts", "inline-wasm.ts"));
  }

  #run(...command: string[]): boolean {
    return spawnSync(process.execPath, command, { cwd: this.root, stdio: "ignore" }).status === 0;
  }

  /** The core as a release build makes it, with `text` in place of the file `path`; undefined where it does not compile. */
  async compile(path?: string, text?: string): Promise<Uint8Array | undefined> {
    let wasm: Uint8Array | undefined;
    const folder = join(this.root, "/");
    const result = await asc.main(["--target", "release", "--textFile", "", "--baseDir", folder], {
      readFile: (name) => {
        const inside = name.startsWith(folder) ? name.slice(folder.length) : name;
        if (inside === path) return text!;
        try {
          return this.read(inside);
        } catch {
          return null;
        }
      },
      writeFile: (name, contents) => {
        if (name.endsWith(".wasm") && typeof contents !== "string") wasm = contents;
      },
      listFiles: () => [],
      stderr: { write: () => {} },
    });
    return result.error === null ? wasm : undefined;
  }
}
