/** Every decoder of the view, and what of it stands in the URL. */
import { ENTRY_DECODER } from "./entries.js";
import type { Decoded, Decoder, Options } from "./model.js";
import { ROLE_DECODER } from "./roles.js";
import { SPTE_DECODER } from "./sptes.js";
import { WORD_DECODERS } from "./words.js";

export const DECODERS: readonly Decoder[] = [ENTRY_DECODER, SPTE_DECODER, ROLE_DECODER, ...WORD_DECODERS];

/** What is shown: the decoder, its word, its options. */
export interface Chosen {
  readonly decoder: Decoder;
  readonly word: bigint;
  readonly options: Options;
}

/** What a URL's parameters mean; what they do not say, or say wrongly, is as at the beginning. */
export function chosenOf(params: Readonly<Record<string, string>>): Chosen {
  const decoder = DECODERS.find(({ id }) => id === params.kind) ?? DECODERS[0]!;
  const options: Record<string, string> = { ...decoder.defaults };
  for (const name of Object.keys(options)) if (params[name] !== undefined) options[name] = params[name];
  const allowed = decoder.options(options);
  for (const option of allowed) {
    if (!isValue(option, options[option.name]!))
      options[option.name] = fallback(option, decoder.defaults[option.name]!);
  }
  const text = params.word ?? "";
  const word = /^(0x)?[0-9a-f]{1,16}$/i.test(text) ? BigInt(`0x${text.replace(/^0x/i, "")}`) : decoder.example;
  return { decoder, options, word: BigInt.asUintN(decoder.bits(options), word) };
}

/** What a URL's parameters say wrongly of the word, for people. */
export function wrongIn(
  { kind, word }: Readonly<Record<string, string>>,
  { decoder, options }: Chosen,
): string | undefined {
  if (kind !== undefined && kind !== decoder.id) return `kind ${kind.slice(0, 40)}: no decoder is called so`;
  if (word === undefined) return undefined;
  const digits = word.replace(/^0x/i, "");
  if (!/^[0-9a-f]{1,16}$/i.test(digits))
    return `word ${word.slice(0, 40)}: expected up to 16 hexadecimal digits; an example is shown`;
  const bits = decoder.bits(options);
  return BigInt(`0x${digits}`) >> BigInt(bits) === 0n
    ? undefined
    : `${word} has more than ${bits} bits: the low ones are shown`;
}

type OneOption = ReturnType<Decoder["options"]>[number];

function isValue(option: OneOption, value: string): boolean {
  if (option.type === "choice") return option.values.some((one) => one.value === value);
  if (option.type === "number") return Number(value) >= option.least && Number(value) <= option.most;
  return option.type === "switch" ? value === "" || value === "on" : true;
}

function fallback(option: OneOption, usual: string): string {
  return option.type === "choice" && !option.values.some(({ value }) => value === usual)
    ? option.values[0]!.value
    : usual;
}

/** What stands in the URL for it; only what is not as at the beginning. */
export function paramsOf({ decoder, word, options }: Chosen): Record<string, string | undefined> {
  const changed = Object.entries(options).filter(([name, value]) => value !== decoder.defaults[name]);
  return { kind: decoder.id, word: word.toString(16), ...Object.fromEntries(changed) };
}

/** The word's meaning, or why it has none. */
export function decodedOf({ decoder, word, options }: Chosen): Decoded | { readonly problem: string } {
  try {
    return decoder.decode(word, options);
  } catch (error) {
    return { problem: (error as Error).message };
  }
}
