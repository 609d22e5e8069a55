/** A progress bar on standard error, on terminals only. */
import { Presets, SingleBar } from "cli-progress";
import type { CliIo } from "./io.js";

export interface Progress {
  update(done: number): void;
  stop(): void;
}

const SILENT: Progress = { update() {}, stop() {} };

/**
 * Starts a bar of `total` steps. There is none where standard error is no terminal, or where standard output is
 * one too: the listing itself shows that something happens, unless it is `silent` until the bar has ended.
 */
export function startProgress(io: CliIo, title: string, total: number, silent = false): Progress {
  if (io.stderr.isTTY !== true || (io.stdout.isTTY === true && !silent)) return SILENT;
  const bar = new SingleBar(
    {
      format: `${title} {bar} {percentage}% | {value}/{total} | {eta_formatted} left`,
      stream: io.stderr as unknown as NodeJS.WritableStream,
      clearOnComplete: true,
      hideCursor: true,
    },
    Presets.shades_classic,
  );
  bar.start(total, 0);
  return { update: (done) => bar.update(done), stop: () => bar.stop() };
}
