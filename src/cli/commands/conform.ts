/** `x86-paging conform`: judges an engine by recorded page walks. */

import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Command, Option } from "commander";
import type { PagingEngine } from "../../api.js";
import {
  type ConformanceSummary,
  KNOWN_EXCEPTIONS,
  readVectors,
  runVectors,
  VectorError,
} from "../../conform/index.js";
import { jsonText } from "../../json-text.js";
import type { CliContext } from "../context.js";
import { ENGINE_NAMES, type EngineName } from "../engine.js";
import { CliError, ExitCode } from "../errors.js";
import { KERNEL_NAMES, type KernelName, kernelEngine } from "../kernel-engine.js";
import { linesOfFile } from "../lines.js";
import { startProgress } from "../progress.js";
import { parseInteger } from "../values.js";

interface ConformOptions {
  engine: EngineName | "both";
  kernel?: KernelName | "all";
  show: number;
  json?: boolean;
}

/** What judges: an engine, or the core by one of its kernels. */
interface Judged {
  readonly name: string;
  load(): PagingEngine | Promise<PagingEngine>;
}

/** Vectors of one file through one engine. */
interface FileResult extends ConformanceSummary {
  readonly file: string;
  readonly engine: string;
}

export function registerConform(program: Command, context: CliContext): void {
  program
    .command("conform")
    .description("run page-walk vectors: what a recorded processor did against what an engine does")
    .argument("<vectors...>", "NDJSON files, gzip or not, or folders of *.ndjson and *.ndjson.gz")
    .addOption(
      new Option("--engine <name>", "what walks the tables").choices([...ENGINE_NAMES, "both"]).default("wasm"),
    )
    .addOption(
      new Option("--kernel <name>", "make the core's translations by one of its fast ways, or by all in turn")
        .choices([...KERNEL_NAMES, "all"])
        .conflicts("engine"),
    )
    .option("--show <n>", "print the first n failures of each file", parseInteger(0, 2 ** 31), 5)
    .option("--json", "one JSON object a file and engine, then the sum")
    .addHelpText(
      "after",
      "\nExamples:\n  x86-paging conform vectors/*.ndjson.gz\n  x86-paging conform vectors --engine both --show 20\n" +
        "  x86-paging conform vectors --kernel all",
    )
    .action((paths: string[], options: ConformOptions) => conform(context, paths, options));
}

async function conform(context: CliContext, paths: readonly string[], options: ConformOptions): Promise<void> {
  const files = paths.flatMap(vectorFiles);
  const engines = judged(context, options);
  const total = { passed: 0, failed: 0 };
  const exceptions = new Map<string, number>();
  let unreadable = 0;
  const progress = startProgress(context.io, "Files", files.length * engines.length);
  try {
    let done = 0;
    for (const file of files) {
      try {
        for (const engine of engines) {
          const result = await runFile(file, engine, options.show);
          progress.update(++done);
          total.passed += result.passed;
          total.failed += result.failed;
          for (const [name, count] of result.exceptions) exceptions.set(name, (exceptions.get(name) ?? 0) + count);
          await print(context, result, options);
        }
      } catch (error) {
        // One file alone is an error of the command; beside others it does not keep those from being judged.
        if (!(error instanceof CliError) || files.length === 1) throw error;
        context.problem(error);
        unreadable++;
      }
    }
  } finally {
    progress.stop();
  }
  if (total.passed + total.failed + unreadable === 0)
    throw new CliError(`${paths.join(", ")}: expected vectors, found none`);
  const text = `${total.passed} passed, ${total.failed} failed`;
  if (options.json) {
    const counted = exceptions.size > 0 ? { ...total, exceptions: Object.fromEntries(exceptions) } : total;
    await context.out.line(jsonText(unreadable > 0 ? { ...counted, unreadable } : counted));
  } else {
    for (const { name, reason } of KNOWN_EXCEPTIONS) {
      const count = exceptions.get(name);
      if (count !== undefined) await context.out.line(`exception ${name}: ${count} of them (${reason})`);
    }
    await context.out.line(unreadable > 0 ? `${text}, ${unreadable} of ${files.length} files unreadable` : text);
  }
  if (unreadable > 0) context.exitCode = ExitCode.Failure;
  else if (total.failed > 0) context.exitCode = ExitCode.Negative;
}

function judged(context: CliContext, { engine, kernel }: ConformOptions): Judged[] {
  if (kernel === undefined) {
    const names = engine === "both" ? ENGINE_NAMES : [engine];
    return names.map((name) => ({ name, load: () => context.engine(name) }));
  }
  const kernels = kernel === "all" ? KERNEL_NAMES : [kernel];
  return kernels.map((name) => ({ name: `wasm ${name}`, load: () => kernelEngine(name) }));
}

async function runFile(file: string, { name, load }: Judged, show: number): Promise<FileResult> {
  try {
    const vectors = readVectors(linesOfFile(file));
    const summary = await runVectors(await load(), vectors, { keepFailures: show });
    return { file, engine: name, ...summary };
  } catch (error) {
    if (error instanceof VectorError) throw new CliError(`${file}: ${error.message}`);
    throw error;
  }
}

async function print(context: CliContext, result: FileResult, options: ConformOptions): Promise<void> {
  const { file, engine, passed, failed } = result;
  if (options.json) {
    const failures = result.failures.map(({ vector, differences }) => ({ id: vector.id, differences }));
    await context.out.line(jsonText({ file, engine, passed, failed, failures }));
    return;
  }
  const verdict = context.style(failed === 0 ? "green" : "red", failed === 0 ? "pass" : "FAIL");
  await context.out.line(`${verdict}  ${file}  ${engine}  ${passed} passed, ${failed} failed`);
  for (const { vector, differences } of result.failures) {
    await context.out.line(`  ${vector.id}`);
    for (const line of differences) await context.out.line(`    ${line}`);
  }
}

/** A file as it is; of a folder the vector files in it. */
function vectorFiles(path: string): string[] {
  try {
    if (!statSync(path).isDirectory()) return [path];
    const names = readdirSync(path).filter((name) => /\.ndjson(\.gz)?$/.test(name));
    if (names.length === 0) throw new CliError(`${path}: expected *.ndjson or *.ndjson.gz files, found none`);
    return names.sort().map((name) => join(path, name));
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw new CliError(`${path}: expected a file or folder, found ${(error as NodeJS.ErrnoException).code ?? error}`);
  }
}
