/** `x86-paging trace`: what a stock kernel's trace of KVM's MMU tells. */

import { type Command, InvalidArgumentError } from "commander";
import { jsonText } from "../../json-text.js";
import { checkRole } from "../../trace/filter.js";
import { analyseTrace, FINDING_CODES } from "../../trace/index.js";
import type { CliContext } from "../context.js";
import { CliError, ExitCode } from "../errors.js";
import { startProgress } from "../progress.js";
import { traceFile } from "../trace-file.js";
import { pageLines, reportLines } from "../trace-text.js";
import { parseHex, parseInteger } from "../values.js";

interface TraceCliOptions {
  kernel?: string;
  since?: number;
  until?: number;
  gfn?: bigint;
  role?: string;
  maxphyaddr?: number;
  findings: boolean;
  pages?: boolean;
  show: number;
  json?: boolean;
}

/** Guest frame numbers have at most so many bits. */
const GFN_BITS = 52n;

export function registerTrace(program: Command, context: CliContext): void {
  program
    .command("trace")
    .description("what a trace of KVM's MMU tells: faults, pages, roles, roots, and what went wrong")
    .argument("<file>", "text of tracing/trace, trace-cmd report or perf script, or a trace.dat file; gzip or not")
    .option("--kernel <release>", "the kernel that was traced (default: what the file or its events say)")
    .option("--since <seconds>", "count what is from this time on", parseSeconds)
    .option("--until <seconds>", "do not look at what is after this time", parseSeconds)
    .option("--gfn <gfn>", "what concerns a guest frame number, event by event", parseHex)
    .option("--role <words>", "what concerns pages of a role, event by event: 'l4 direct'")
    .option("--pages", "list the pages, too")
    .option("--maxphyaddr <bits>", "the host's: bits of entries above are reserved", parseInteger(32, 52))
    .option("--no-findings", "numbers only, which is faster")
    .option("--show <n>", "events and pages listed", parseInteger(0, 10 ** 7), 200)
    .option("--json", "one JSON object: the report, with pages and events where they are asked for")
    .addHelpText(
      "after",
      `\nFindings: ${FINDING_CODES.join(", ")}.` +
        "\nEach is shown with the lines that it rests on; docs/traces.md says what it means and what to do about it, and how" +
        "\nto take a trace. The exit code is 1 where something is found." +
        "\n\nExamples:\n  x86-paging trace trace.dat" +
        "\n  x86-paging trace trace.txt.gz --since 249.1 --until 249.3" +
        "\n  x86-paging trace trace.txt --gfn 104\n  x86-paging trace trace.txt --role 'l4 direct' --pages" +
        "\n  perf script -i perf.data | x86-paging trace /dev/stdin --json",
    )
    .action((file: string, options: TraceCliOptions) => trace(context, file, options));
}

async function trace(context: CliContext, path: string, options: TraceCliOptions): Promise<void> {
  const { out } = context;
  try {
    checkRole(options.role);
  } catch (error) {
    throw new CliError(`--${(error as Error).message}`);
  }
  const { kernel, since, until, gfn, role, findings, json, show } = options;
  if (gfn !== undefined && gfn >> GFN_BITS !== 0n) throw new CliError(`--gfn: expected at most ${GFN_BITS} bits`);
  if (since !== undefined && until !== undefined && until < since) {
    throw new CliError(`--until ${until}: expected a time that is not before --since ${since}`);
  }
  const file = traceFile(path);
  const progress = startProgress(context.io, "trace", Math.max(1, file.size), true);
  const filtered = gfn !== undefined || role !== undefined;
  const events: { line: number; text: string }[] = [];
  let passed = 0;
  try {
    const { report, pages } = await analyseTrace(file.input, {
      name: path,
      findings,
      ...(kernel !== undefined && { kernel }),
      ...(options.maxphyaddr !== undefined && { maxPhyAddr: options.maxphyaddr }),
      ...(since !== undefined && { since }),
      ...(until !== undefined && { until }),
      ...(gfn !== undefined && { gfn: Number(gfn) }),
      ...(role !== undefined && { role }),
      onProgress: (bytes) => progress.update(bytes),
      ...(filtered && {
        onEvent: (record) => {
          if (passed++ < show) events.push({ line: record.line, text: record.text });
        },
      }),
    });
    progress.stop();
    const listed = options.pages || filtered ? pages() : undefined;
    if (json) {
      const shown = filtered && { matching: passed, matchingEvents: events };
      const { summary, findings: found } = report;
      const pages = listed !== undefined && { pages: listed.slice(0, show).map(inHex) };
      const roots = summary.roots.map(inHex);
      await out.line(
        jsonText({ ...report, summary: { ...summary, roots }, findings: found.map(inHex), ...pages, ...shown }),
      );
    } else {
      for (const line of reportLines(report, context.style)) await out.line(line);
      if (listed !== undefined) for (const line of pageLines(listed, show)) await out.line(line);
      if (filtered) {
        await out.line("");
        await out.line(`events: ${passed}`);
        for (const { line, text } of events) await out.line(`  ${line}: ${text}`);
        if (passed > events.length) await out.line(`  ... ${passed - events.length} more`);
      }
    }
    if (report.findings.length > 0) context.exitCode = ExitCode.Negative;
  } finally {
    progress.stop();
    file.close();
  }
}

/** Frame numbers as addresses are (docs/json.md): strings of hexadecimal digits. */
function inHex<Row extends { readonly gfn?: number; readonly parent?: { readonly gfn: number } }>(row: Row): object {
  const { gfn, parent } = row;
  return {
    ...row,
    ...(gfn !== undefined && { gfn: `0x${gfn.toString(16)}` }),
    ...(parent !== undefined && { parent: inHex(parent) }),
  };
}

function parseSeconds(text: string): number {
  if (!/^\d{1,15}(?:\.\d{1,12})?$/.test(text)) throw new InvalidArgumentError("expected seconds, such as 249.187935.");
  return Number(text);
}
