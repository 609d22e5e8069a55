/** `x86-paging read`: bytes of memory by virtual or physical address. */

import type { Command } from "commander";
import { Access, Status } from "../../abi/index.js";
import type { AddressSpace, Fault } from "../../api.js";
import type { Dump } from "../../dump/node.js";
import { jsonText } from "../../json-text.js";
import type { CliContext } from "../context.js";
import { addDumpOptions, type DumpOptions, FILE_HELP, openDumpOf, openSpace } from "../dump-options.js";
import { CliError, ExitCode } from "../errors.js";
import { hex, hex16, parseHex, parseSize } from "../values.js";

const PAGE = 4096n;
const ADDRESSES = 1n << 64n;
const LINE = 16;
/** The kernel reads, with SMAP lifted, and nothing in the dump is changed. */
const READS = Access.Read | Access.Ac | Access.Probe;

interface ReadOptions extends DumpOptions {
  physical?: boolean;
  binary?: boolean;
  json?: boolean;
}

/** Consecutive bytes of one page, or why there are none. */
type Piece =
  | { readonly address: bigint; readonly size: number; readonly gpa: bigint; readonly bytes: Uint8Array }
  | { readonly address: bigint; readonly size: number; readonly why: string };

export function registerRead(program: Command, context: CliContext): void {
  const command = program
    .command("read")
    .description(
      "show memory by virtual address, as a hex dump; what is not mapped or not in the dump is said to be so",
    )
    .argument("<file>", FILE_HELP)
    .argument("<address>", "first address in hexadecimal, virtual unless --physical", parseHex)
    .argument("<length>", "bytes, e.g. 256 or 4K", parseSize)
    .option("--physical", "ADDRESS is guest-physical")
    .option("--binary", "the bytes themselves; nothing is written where one is missing")
    .option("--json", "one JSON object a page: its address, where it lies, and the bytes in hexadecimal");
  addDumpOptions(command)
    .addHelpText(
      "after",
      "\nIt reads as the kernel does; rights and keys of user code do not matter. Ends with 1 where a byte is missing.\n" +
        "\nExamples:\n  x86-paging read vm.elf ffffffff81000000 64\n  x86-paging read vm.elf 7ffd1000 4K --cr3 0x18118000\n  x86-paging read vm.elf 0x1000 4096 --physical --binary > page.bin",
    )
    .action((file: string, address: bigint, length: number, options: ReadOptions) =>
      read(context, file, address, BigInt(length), options),
    );
}

async function read(
  context: CliContext,
  file: string,
  address: bigint,
  length: bigint,
  options: ReadOptions,
): Promise<void> {
  if (options.binary && options.json) throw new CliError("--binary and --json: expected one of them");
  if (address + length > ADDRESSES)
    throw new CliError(`${hex(address)}: fewer than ${length} bytes follow, up to 2^64`);
  const opened = options.physical
    ? { dump: await openDumpOf(context, file, options), space: undefined }
    : await openSpace(context, file, options, true);
  const { dump, space } = opened;
  try {
    const pieces = () => piecesOf(dump, space, address, length);
    if (options.binary) {
      // All of it is looked at before any of it is written.
      for (const piece of pieces()) {
        if (!("why" in piece)) continue;
        context.problem(`${dump.name}: ${hex(piece.address)}: ${piece.why}; nothing was written`);
        context.exitCode = ExitCode.Negative;
        return;
      }
    }
    let missing = false;
    const lines = new HexDump(context);
    const write = (piece: Piece) => {
      if (options.json) return context.out.line(jsonText(pieceJson(piece)));
      return options.binary && !("why" in piece) ? context.out.bytes(piece.bytes) : lines.show(piece);
    };
    for (const piece of options.binary || options.json ? pieces() : joinedHoles(pieces())) {
      missing ||= "why" in piece;
      const wait = write(piece);
      if (wait !== undefined) await wait;
    }
    await lines.end(BigInt.asUintN(64, address + length));
    if (missing) context.exitCode = ExitCode.Negative;
  } finally {
    dump.close();
  }
}

/** Page by page; each is read when it is asked for. */
function* piecesOf(dump: Dump, space: AddressSpace | undefined, from: bigint, length: bigint): Generator<Piece> {
  const page = new Uint8Array(Number(PAGE));
  for (let address = from; address < from + length; ) {
    const inPage = PAGE - (address % PAGE);
    const left = from + length - address;
    const size = Number(inPage < left ? inPage : left);
    yield pieceAt(dump, space, address, size, page);
    address += BigInt(size);
  }
}

function pieceAt(dump: Dump, space: AddressSpace | undefined, address: bigint, size: number, page: Uint8Array): Piece {
  const found = space?.translate(address, READS);
  if (found !== undefined && !found.ok) return { address, size, why: refusal(found) };
  const gpa = found?.pa ?? address;
  if (!dump.pageSource.readPage(gpa / PAGE, page)) {
    const presence = dump.presence(gpa - (gpa % PAGE), PAGE);
    return { address, size, why: presence === "excluded" ? "left out by the dump's writer" : "not in the dump" };
  }
  const offset = Number(gpa % PAGE);
  return { address, size, gpa, bytes: page.subarray(offset, offset + size) };
}

function refusal(fault: Fault): string {
  if (fault.status === Status.NonCanonical) return "not a canonical address";
  if (fault.status === Status.OutsideMemory) return `not mapped: the level-${fault.level} table is not in the dump`;
  return `not mapped: level-${fault.level} entry ${hex(fault.entry)}`;
}

/** Pages that are missing for the same reason are one. */
function* joinedHoles(pieces: Iterable<Piece>): Generator<Piece> {
  let hole: (Piece & { readonly why: string }) | undefined;
  for (const piece of pieces) {
    if ("why" in piece && hole?.why === piece.why) hole = { ...hole, size: hole.size + piece.size };
    else {
      if (hole !== undefined) yield hole;
      hole = "why" in piece ? piece : undefined;
      if (hole === undefined) yield piece;
    }
  }
  if (hole !== undefined) yield hole;
}

/** Lines of a hex dump; a star stands for lines that repeat the one above. */
class HexDump {
  readonly #context: CliContext;
  #last = "";
  #starred = false;

  constructor(context: CliContext) {
    this.#context = context;
  }

  show(piece: Piece): Promise<void> | undefined {
    if ("why" in piece) {
      this.#last = "";
      this.#starred = false;
      const why = this.#context.style("dim", piece.why);
      return this.#context.out.line(`${hex16(piece.address)}  ${piece.size} bytes: ${why}`);
    }
    let wait: Promise<void> | undefined;
    // Lines begin at multiples of 16.
    let at = piece.address;
    for (let done = 0; done < piece.size; ) {
      const count = Math.min(LINE - Number(at % BigInt(LINE)), piece.size - done);
      wait = this.#line(at, piece.bytes.subarray(done, done + count)) ?? wait;
      done += count;
      at += BigInt(count);
    }
    return wait;
  }

  #line(address: bigint, bytes: Uint8Array): Promise<void> | undefined {
    const key = bytes.length === LINE ? bytes.join() : "";
    const repeats = key !== "" && key === this.#last;
    this.#last = key;
    if (repeats && this.#starred) return undefined;
    this.#starred = repeats;
    return this.#context.out.line(repeats ? "*" : hexLine(address, bytes));
  }

  /** The address behind the last byte, where a star hides how far it goes. */
  end(address: bigint): Promise<void> | undefined {
    return this.#starred ? this.#context.out.line(hex16(address)) : undefined;
  }
}

function hexLine(address: bigint, bytes: Uint8Array): string {
  const skipped = Number(address % BigInt(LINE));
  const shown = [...Array<undefined>(skipped), ...bytes];
  const cells = Array.from({ length: LINE }, (_, i) => {
    const byte = shown[i];
    return `${i === 8 ? " " : ""}${byte === undefined ? "  " : byte.toString(16).padStart(2, "0")}`;
  });
  const text = shown.map((byte) =>
    byte === undefined ? " " : byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".",
  );
  return `${hex16(address - BigInt(skipped))}  ${cells.join(" ")}  ${text.join("")}`;
}

function pieceJson(piece: Piece): object {
  const { address, size } = piece;
  if ("why" in piece) return { address: hex(address), size, missing: piece.why };
  return { address: hex(address), size, gpa: hex(piece.gpa), bytes: Buffer.from(piece.bytes).toString("hex") };
}
