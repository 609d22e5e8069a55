/** Runs the command in this process. */
import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { PassThrough, Readable, Writable } from "node:stream";
import { main } from "../../src/cli/main.js";

export interface RunResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

class Collector extends Writable {
  text = "";
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

export interface RunOptions {
  readonly stdin?: string;
  readonly env?: Record<string, string>;
  /** Standard output is a terminal. */
  readonly terminal?: boolean;
  /** Standard error is a terminal. */
  readonly errorTerminal?: boolean;
}

export async function run(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const stdout = Object.assign(new Collector(), { isTTY: options.terminal });
  const stderr = Object.assign(new Collector(), { isTTY: options.errorTerminal });
  const stdin = options.stdin === undefined ? new PassThrough() : Readable.from([options.stdin]);
  const code = await main(args, { stdin, stdout, stderr, env: options.env ?? {} });
  return { code, stdout: stdout.text, stderr: stderr.text };
}

/** What the files are that this process has open, where the system tells it. */
export function openPaths(): string[] {
  const descriptors = "/proc/self/fd";
  if (!existsSync(descriptors)) return [];
  return readdirSync(descriptors).flatMap((name) => {
    try {
      return [readlinkSync(join(descriptors, name))];
    } catch {
      // Closed in the meantime.
      return [];
    }
  });
}

export const fixture = (name: string, file = "pt.elf.gz") =>
  new URL(`../fixtures/dumps/${name}/${file}`, import.meta.url).pathname;
