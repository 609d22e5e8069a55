/**
 * A good walker in plain JavaScript, for comparison: 64-bit entries as two 32-bit halves read from one Uint32Array, no
 * objects, no BigInt. 4-level paging with large pages, reserved bits, rights and faults, as the other candidates.
 */
const PAGE = 4096;

export interface JavaScriptSpace {
  readonly words: Uint32Array;
  readonly ramLinear: number;
  readonly ramSize: number;
  readonly root: number;
  /** MAXPHYADDR minus 32. */
  readonly highWidth: number;
  readonly permissions: Uint16Array;
  readonly fetchCode: number;
}

/** Translates `count` addresses at byte offset `input` of the words to `output`, in the form of the core's batch. */
export function translateBatch(
  space: JavaScriptSpace,
  input: number,
  output: number,
  count: number,
  access: number,
): void {
  const { words } = space;
  for (let index = 0; index < count; index++) {
    const at = (input >> 2) + index * 2;
    const to = (output >> 2) + index * 2;
    const result = translate(space, words[at + 1]! | 0, words[at]! | 0, access);
    if (result >= 0) {
      words[to] = result | 0;
      words[to + 1] = result / 4294967296;
    } else {
      words[to] = -1 - result;
      words[to + 1] = 0x80000000;
    }
  }
}

/** The physical address, or -1 - (status << 16 | error code). */
export function translate(space: JavaScriptSpace, high: number, low: number, access: number): number {
  if ((high << 16) >> 16 !== high) return -1 - (2 << 16);
  const { words, ramLinear, ramSize, highWidth } = space;
  const reservedHigh = 0xfffff & (-1 << highWidth);
  let table = space.root;
  let all = -1;
  let anyHigh = 0;
  for (let shift = 39; ; shift -= 9) {
    const index =
      (shift >= 32 ? high >>> (shift - 32) : shift === 30 ? (high << 2) | (low >>> 30) : low >>> shift) & 511;
    if (table + index * 8 >= ramSize) return -1 - (6 << 16);
    const place = (ramLinear + table + index * 8) >>> 2;
    const entry = words[place]! | 0;
    const entryHigh = words[place + 1]! | 0;
    if ((entry & 1) === 0) return -1 - ((1 << 16) | (access & (6 | space.fetchCode)));
    const large = shift !== 12 && (entry & 0x80) !== 0;
    let reserved = entryHigh & reservedHigh;
    if (large) reserved |= shift === 39 ? 1 : entry & ((1 << shift) - 1) & ~0x1fff;
    if (reserved !== 0) return -1 - ((1 << 16) | 9 | (access & (6 | space.fetchCode)));
    all &= entry;
    anyHigh |= entryHigh;
    const leaf = large || shift === 12;
    const wanted = entry | 0x20 | (leaf && access & 2 ? 0x40 : 0);
    if (!leaf) {
      if (wanted !== entry) words[place] = wanted;
      table = (entryHigh & 0xfffff) * 4294967296 + ((entry & ~(PAGE - 1)) >>> 0);
      continue;
    }
    const rights = (all & 6) | (anyHigh < 0 ? 0 : 1);
    if ((space.permissions[(access >> 1) & 15]! >> rights) & 1) {
      return -1 - ((1 << 16) | 1 | (access & (6 | space.fetchCode)));
    }
    if (wanted !== entry) words[place] = wanted;
    const offsets = (1 << shift) - 1;
    return (entryHigh & 0xfffff) * 4294967296 + (((entry & ~offsets) | (low & offsets)) >>> 0);
  }
}
