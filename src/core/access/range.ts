/** Where the bytes of a linear range lie, as runs that are contiguous in physical memory. */
import { Access } from "../../abi/index.js";
import type { U64 } from "../../api.js";
import { checkAccess } from "../checks/access.js";
import { toU64 } from "../checks/numbers.js";
import type { RangeFault, RangeRun } from "./results.js";
import type { Translator } from "./translator.js";

/**
 * The runs of `length` bytes from `address` on, in order, ending with the first fault if there is one. Pages are
 * translated as the runs are asked for, one translation a page of whatever size.
 */
export function translateRange(
  space: Translator,
  address: U64,
  length: U64,
  access: number = Access.Read,
): IterableIterator<RangeRun | RangeFault> {
  return runs(space, toU64(address, "address"), toU64(length, "length"), checkAccess(access));
}

function* runs(
  space: Translator,
  address: bigint,
  length: bigint,
  access: number,
): IterableIterator<RangeRun | RangeFault> {
  const end = space.isNarrow ? 1n << 32n : 1n << 64n;
  let run: RangeRun | undefined;
  let at = address;
  let left = length;
  while (left > 0n) {
    const result = space.translate(at, access);
    if (!result.ok) {
      if (run !== undefined) yield run;
      yield { ok: false, address: at, left, fault: result };
      return;
    }
    const page = BigInt(space.lastPageBytes());
    const inPage = page - (at & (page - 1n));
    const piece = inPage < left ? inPage : left;
    const follows = run !== undefined && run.pa + run.length === result.pa && run.address + run.length === at;
    if (run !== undefined && !follows) yield run;
    run = follows ? { ...run!, length: run!.length + piece } : { ok: true, address: at, pa: result.pa, length: piece };
    left -= piece;
    at = (at + piece) % end;
  }
  if (run !== undefined) yield run;
}
