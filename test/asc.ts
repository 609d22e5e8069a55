/** Compiles a part of the core for a test. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** The Wasm of asconfig.json's target "debug"; `entries` instead of the core's own. */
export function compileDebug(...entries: string[]): Uint8Array<ArrayBuffer> {
  const file = join(mkdtempSync(join(tmpdir(), "asc-")), "core.wasm");
  const asc = join(root, "node_modules/assemblyscript/bin/asc.js");
  const config = entries.length === 0 ? ["--target", "debug"] : ["--config", "none", ...entries, ...OPTIONS];
  execFileSync(process.execPath, [asc, ...config, "-o", file], { cwd: root });
  return Uint8Array.from(readFileSync(file));
}

const OPTIONS = ["--runtime", "stub", "--importMemory", "--enable", "threads", "--use", "abort=", "--debug"];
