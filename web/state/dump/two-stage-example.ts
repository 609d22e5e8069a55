/**
 * Memory of a small machine that runs a nested guest, made here: its own tables map all of it; EPT puts the guest's pages 64 KiB
 * further up, and lets one of them be read alone.
 */

const PAGE = 4096;
/** Present, writable, user-accessible; of EPT readable, writable, executable. */
const ALL = 7n;
const WRITE_BACK = 6n << 3n;

/** Physical addresses of this memory. */
const OWN_ROOT = 0x9000;
const EPT_ROOT = 0x1000;
/** Guest-physical. */
const GUEST_ROOT = 0x1000;
const SHIFT = 0x10000;

export const TWO_STAGE_NAME = "nested-guest.raw";

/** Where its parts are, for the URL. */
export const TWO_STAGE_PARAMS = {
  cr3: OWN_ROOT.toString(16),
  mode: "4level",
  stage: "ept",
  root: (EPT_ROOT | 0x1e).toString(16),
  guest: GUEST_ROOT.toString(16),
  address: "401123",
  access: "read",
  user: "1",
} as const;

export function twoStageExample(): File {
  const bytes = new Uint8Array(0x20 * PAGE);
  const view = new DataView(bytes.buffer);
  const put = (table: number, index: number, entry: bigint) => view.setBigUint64(table + 8 * index, entry, true);
  const chain = (tables: readonly number[], indices: readonly number[], shift: number) =>
    tables.slice(0, -1).forEach((table, level) => {
      put(table + shift, indices[level]!, BigInt(tables[level + 1]!) | ALL);
    });
  // The machine's own: 2 MiB by one page.
  chain([OWN_ROOT, 0xa000, 0xb000], [0, 0], 0);
  put(0xb000, 0, 0xe7n);
  // EPT, and the guest's pages 0 to 7; page 6 is read-only.
  chain([EPT_ROOT, 0x2000, 0x3000, 0x4000], [0, 0, 0], 0);
  for (let page = 0; page < 8; page++) {
    put(0x4000, page, BigInt(page * PAGE + SHIFT) | (page === 6 ? 1n : ALL) | WRITE_BACK);
  }
  // The guest maps 0x401000 and 0x402000 to its pages 5 and 6, and 0x403000 to one that EPT does not have.
  chain([GUEST_ROOT, 0x2000, 0x3000, 0x4000], [0, 0, 2], SHIFT);
  for (const [index, page] of [5, 6, 9].entries()) put(0x4000 + SHIFT, 1 + index, BigInt(page * PAGE) | 0x67n);
  bytes.set(new TextEncoder().encode("a page of the nested guest"), 5 * PAGE + SHIFT);
  return new File([bytes], TWO_STAGE_NAME);
}
