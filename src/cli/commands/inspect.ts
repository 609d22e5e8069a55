/** `x86-paging inspect`: the inspector in a browser. */
import type { Command } from "commander";
import type { CliContext } from "../context.js";
import { serveInspector } from "../inspect/server.js";
import { parseInteger } from "../values.js";

interface InspectOptions {
  port: number;
}

export function registerInspect(program: Command, context: CliContext): void {
  program
    .command("inspect")
    .description("see page tables, walks, words and a shadow MMU in a browser")
    .argument("[file...]", "a dump (all its parts), a packed recording (replay --pack) or a trace to open in the page")
    .option("--port <n>", "the port to serve at; 0: any that is free", parseInteger(0, 65535), 0)
    .addHelpText(
      "after",
      "\nServes the page at 127.0.0.1 until it is interrupted: nothing but the page and the named files, which are read by ranges, as much as\nthe page shows; every program on this machine can read them there meanwhile. Nothing leaves the machine.\n" +
        "\nExamples:\n  x86-paging inspect\n  x86-paging inspect vm.elf --port 8080\n  x86-paging inspect vmcore.1 vmcore.2\n  x86-paging replay RECORDING --pack run.pack && x86-paging inspect run.pack",
    )
    .action((files: string[], options: InspectOptions) => inspect(context, files, options));
}

async function inspect(context: CliContext, files: string[], { port }: InspectOptions): Promise<void> {
  const server = await serveInspector({ port, files });
  try {
    context.out.line(server.url);
    await context.out.flush();
    context.note("serving until it is interrupted (Ctrl-C)");
    await context.io.interrupted?.();
  } finally {
    await server.close();
  }
}
