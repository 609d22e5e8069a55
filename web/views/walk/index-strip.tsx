/** The fields of the address: an index for each level, and the offset in the page. */
import { levelsOf } from "x86-paging/decode";
import type { WalkAnswer } from "../../engine/dump/answers.js";
import { BitStrip, type StripField } from "../../paging/bit-strip.jsx";
import { hex, indexBits, placeText, tableName } from "../../paging/words.js";

export function indexFields({ mode, explanation: { walk } }: WalkAnswer): StripField[] {
  const { address, result, steps } = walk;
  if (mode === "none" || (!result.ok && steps.length === 0)) return [];
  const offsetBits = Math.log2(result.ok ? result.pageSize : 4096);
  const fields: StripField[] = [];
  let lowest = 64;
  for (let level = levelsOf(mode); level >= 1; level--) {
    const { low, width } = indexBits(mode, level);
    if (low < offsetBits) break;
    const value = (address >> BigInt(low)) & ((1n << BigInt(width)) - 1n);
    lowest = low;
    fields.push({
      ...{ low, width, value, kind: "kind" },
      name: tableName(level),
      shown: `[${value}]`,
      meaning: `which entry of the ${tableName(level)}: ${placeText(level, Number(value))}`,
    });
  }
  const bits = Math.min(lowest, offsetBits);
  const offset = address & ((1n << BigInt(bits)) - 1n);
  return [
    ...fields,
    { name: "offset", low: 0, width: bits, value: offset, kind: "address", meaning: "offset in the page" },
  ];
}

export function IndexStrip({ answer }: { answer: WalkAnswer }) {
  const fields = indexFields(answer);
  if (fields.length === 0) return null;
  return (
    <section aria-labelledby="indices-title">
      <h2 id="indices-title">
        Address <code>{hex(answer.explanation.walk.address)}</code>
      </h2>
      <BitStrip label="Indices of the address" fields={fields} />
    </section>
  );
}
