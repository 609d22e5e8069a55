/** A paging context's records in a state: what walks go by is derived again, masks and roots are as they were. */
import { CODES, EPTP, fieldOf, valueIn } from "../../../abi/index.js";
import { SHADOW_CODES } from "../../../abi/shadow.js";
import { StateError } from "../../../errors.js";
import type { StateReader } from "../../../state/format/reader.js";
import type { StateWriter } from "../../../state/format/writer.js";
import type { ContextCore } from "../context-core.js";
import type { PagePieces } from "./page-state.js";

const MASKS = 10;
const PDPTES = 4;
const PREVIOUS = 3;
const MOST_LEVEL = 5;
const LEAST_ADDRESS_BITS = 32;
const MOST_ADDRESS_BITS = 52;
const WALK_LENGTH = fieldOf(EPTP, "WALK_LENGTH");
const { FEATURE_SHADOW_STACK_CHECK } = CODES;
/** Every FEATURE bit. */
const FEATURES = FEATURE_SHADOW_STACK_CHECK * 2 - 1;
const { MMU_WP, MMU_SMEP, FORMAT_EPT } = SHADOW_CODES;

export function writeContext(out: StateWriter, { mmu, space }: ContextCore, pieces: PagePieces): void {
  for (const word of [mmu.rootRole, mmu.format, mmu.guestLevel, mmu.haveAd, mmu.flags, mmu.dummy]) out.u32(word);
  for (const word of [mmu.rootPgd, mmu.pdpteReserved, mmu.shadowBadMtXwr]) out.u64(word);
  out.u32(pieces.pageNumber(mmu.root));
  for (let index = 0; index < PREVIOUS; index++) {
    out.u32(pieces.pageNumber(mmu.previous(index)));
    out.u64(mmu.previousPgd(index));
  }
  for (let index = 0; index < MASKS; index++) out.u64(mmu.shadowReserved(index));
  for (const word of [space.kind, space.features, space.maxphyaddr, space.cr0, space.cr4, space.efer, space.pkru]) {
    out.u32(word);
  }
  out.u64(space.cr3);
  out.u64(space.encryption);
  for (let index = 0; index < MASKS; index++) out.u64(space.reserved(index));
  for (let index = 0; index < PDPTES; index++) out.u64(space.pdptes(index));
}

/** Throws StateError for what no context has. Its memory is set already. */
export function readContext(from: StateReader, context: ContextCore, pieces: PagePieces): void {
  const { mmu, space } = context;
  mmu.rootRole = from.u32();
  mmu.format = from.integer(0, FORMAT_EPT, "a format");
  mmu.guestLevel = from.integer(0, MOST_LEVEL, "a level of the guest's root");
  mmu.haveAd = from.integer(0, 1, "accessed and dirty flags");
  mmu.flags = from.integer(0, MMU_WP | MMU_SMEP, "flags of a context");
  mmu.dummy = from.integer(0, 1, "a dummy root");
  mmu.rootPgd = from.u64();
  mmu.pdpteReserved = from.u64();
  mmu.shadowBadMtXwr = from.u64();
  mmu.root = rootPage(from, pieces);
  for (let index = 0; index < PREVIOUS; index++) {
    mmu.setPrevious(index, rootPage(from, pieces));
    mmu.setPreviousPgd(index, from.u64());
  }
  for (let index = 0; index < MASKS; index++) mmu.setShadowReserved(index, from.u64());
  space.kind = from.integer(0, CODES.KIND_EPT, "a kind of space");
  space.features = from.integer(0, FEATURES, "features");
  // A context that has not been used has none.
  space.maxphyaddr = from.integer(0, MOST_ADDRESS_BITS, "address bits");
  space.cr0 = from.u32();
  space.cr4 = from.u32();
  space.efer = from.u32();
  space.pkru = from.u32();
  space.cr3 = from.u64();
  space.encryption = from.u64();
  if (space.maxphyaddr !== 0) configure(context);
  for (let index = 0; index < MASKS; index++) space.setReserved(index, from.u64());
  for (let index = 0; index < PDPTES; index++) space.setPdptes(index, from.u64());
}

function rootPage(from: StateReader, pieces: PagePieces): number {
  return pieces.page(from.u32());
}

function configure(context: ContextCore): void {
  const { kind, maxphyaddr, cr3 } = context.space;
  const levels = Number(valueIn(WALK_LENGTH, cr3)) + 1;
  if (maxphyaddr < LEAST_ADDRESS_BITS || (kind === CODES.KIND_EPT && levels !== 4 && levels !== 5)) {
    throw new StateError(`the state has a context of ${maxphyaddr} address bits with root 0x${cr3.toString(16)}`);
  }
  context.configure();
  context.setRoot(cr3);
}
