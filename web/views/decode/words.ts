/** Control registers, error codes and exit qualifications. */
import { decodeWord, WORDS, type WordName, wordNames } from "x86-paging/decode";
import { fieldKind } from "../../paging/field-kinds.js";
import { filled, valueAt } from "../../paging/filled.js";
import type { Decoder } from "./model.js";

const EXAMPLES: Partial<Record<WordName, bigint>> = {
  cr0: 0x80050033n,
  cr3: 0x18118000n,
  cr4: 0x3506e0n,
  efer: 0xd01n,
  "error-code": 7n,
  "ept-violation": 0x183n,
  pferr: 0x100000007n,
};

const REGISTERS = /^(cr|efer|eptp|pat|pkru)/;

function wordDecoder(name: WordName): Decoder {
  const word = WORDS[name];
  return {
    id: name,
    group: REGISTERS.test(name) && name !== "cr-access" ? "Registers" : "Faults and exits",
    title: word.title,
    example: EXAMPLES[name] ?? 0n,
    options: () => [],
    defaults: {},
    bits: () => word.bits,
    decode(value) {
      const { title, source, summary, problems } = decodeWord(name, value);
      const known = word.fields.map((field) => {
        const width = field.width ?? 1;
        const text = field.values?.[Number(valueAt(value, field.low, width))];
        return { ...field, width, kind: fieldKind(field.name), ...(text === undefined ? {} : { text }) };
      });
      const ignored = (word.ignored ?? []).map((field) => ({
        name: "",
        low: field.low,
        width: field.width ?? 1,
        kind: "free" as const,
        meaning: "ignored",
      }));
      const fields = filled(value, word.bits, [...known, ...ignored], { name: "rsvd", meaning: "must be 0" });
      return { title, source, summary, problems, fields, facts: [] };
    },
  };
}

export const WORD_DECODERS: readonly Decoder[] = wordNames.map(wordDecoder);
