/** `x86-paging decode`: control registers, error codes and exit qualifications. */

import { Argument, type Command } from "commander";
import { WORDS, type WordName } from "../../abi/words.js";
import { wordField } from "../../decode/fields.js";
import { type DecodedWord, decodeWord, wordNames } from "../../decode/word.js";
import { jsonText } from "../../json-text.js";
import type { CliContext } from "../context.js";
import { CliError } from "../errors.js";
import { fieldJson, fieldLine, problemLine } from "../field-text.js";
import { hex, hex16, parseHexList } from "../values.js";

interface DecodeOptions {
  all?: boolean;
  json?: boolean;
}

const KINDS = wordNames.map((name) => `  ${name.padEnd(14)} ${WORDS[name].title}`).join("\n");

export function registerDecode(program: Command, context: CliContext): void {
  program
    .command("decode")
    .description("decode control registers, error codes and exit qualifications")
    .addArgument(new Argument("<kind>", "what the words are").choices(wordNames as string[]))
    .argument("<word...>", "words in hexadecimal", parseHexList)
    .option("--all", "print fields that are zero, too")
    .option("--json", "one JSON object a word")
    .addHelpText(
      "after",
      `\nKinds:\n${KINDS}\n` +
        "\nEntries of page tables are decoded by pte, SPTEs by spte, KVM's roles by role.\n" +
        "\nExamples:\n  x86-paging decode cr4 3506e0\n  x86-paging decode error-code 0 7 1d\n" +
        "  x86-paging decode ept-violation 0x183 --json",
    )
    .action((kind: WordName, words: bigint[], options: DecodeOptions) => {
      const { bits } = WORDS[kind];
      for (const word of words) {
        if (word >> BigInt(bits) !== 0n) throw new CliError(`${hex(word)}: expected ${bits} bits for ${kind}`);
      }
      for (const [index, word] of words.entries()) {
        if (index > 0 && !options.json) context.out.line("");
        print(context, kind, word, options);
      }
    });
}

function print(context: CliContext, kind: WordName, word: bigint, options: DecodeOptions): void {
  const { out, style } = context;
  const decoded = decodeWord(kind, word);
  const fields = options.all ? allFields(kind, word, decoded) : decoded.fields;
  if (options.json) {
    const { title, source, summary, problems } = decoded;
    out.line(jsonText({ word: hex(word), kind, title, source, summary, fields: fields.map(fieldJson), problems }));
    return;
  }
  const digits = WORDS[kind].bits === 32 ? word.toString(16).padStart(8, "0") : hex16(word);
  out.line(`${style("bold", digits)}  ${decoded.title}${decoded.summary === "" ? "" : `: ${decoded.summary}`}`);
  for (const field of fields) out.line(fieldLine(field, style));
  for (const problem of decoded.problems) out.line(problemLine(problem, style));
}

/** Those that are zero, too, and behind them what must be 0 and is not. */
function allFields(kind: WordName, word: bigint, decoded: DecodedWord) {
  return [
    ...WORDS[kind].fields.map((field) => wordField(field, word)),
    ...decoded.fields.filter(({ use }) => use === "reserved"),
  ];
}
