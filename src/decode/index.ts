/** `x86-paging/decode`: what entries of paging structures, control registers, error codes and exit qualifications say. */
export {
  type BitUse,
  bitsUsed,
  type EntryFeatures,
  type EntryField,
  type EntryFormat,
  type EntryKind,
  type EntryLayout,
  entryLayout,
  levelsOf,
} from "../abi/entry-format.js";
export { WORDS, type Word, type WordName } from "../abi/words.js";
export { type DecodedEntry, decodeEntry, entryName } from "./entry.js";
export { placeOf, type WordField } from "./fields.js";
export { type DecodedWord, decodeWord, wordNames } from "./word.js";
