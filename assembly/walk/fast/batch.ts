/** Translating many addresses in one call. */
import { BATCH_TOO_WIDE, BLOCK_LANES, KERNEL_AUTO, KERNEL_SCALAR, MODE_NONE } from "../../abi/codes";
import { Space } from "../../abi/records";
import { isNarrow } from "../linear";
import { NOT_FAST } from "../plan";
import { BLOCK_FAILED, BLOCK_REFUSED, lanesOf, walkBlock } from "./block";
import { walkFast, walkFastInline } from "./fast";
import { MISSING, walkOn } from "./refused";

/** Blocks that go address by address after one in which the block kernel left much to be done. */
// @ts-ignore: decorator
@inline const PAUSE: u32 = 7;

/**
 * Translates `count` addresses (u64 each) from `input` to `output`, which must not overlap: u64 physical addresses, or
 * bit 63 | status << 16 | error code. Returns how many were done: fewer than `count` where a page of a sparse memory has
 * to be read first. Faults do not stop it. BATCH_TOO_WIDE, with nothing done, where an address is one that the mode does not
 * have. `kernel` is a KERNEL_* code; it changes the time, never the result.
 */
export function translateBatch(space: Space, input: usize, output: usize, count: u32, access: u32, kernel: u32): u32 {
  if (isNarrow(space) && anyWide(input, count)) return BATCH_TOO_WIDE;
  const blocks = kernel != KERNEL_SCALAR && space.fast != MODE_NONE;
  let done: u32 = 0;
  let pause: u32 = 0;
  while (done < count) {
    const lanes = min<u32>(count - done, BLOCK_LANES) & ~1;
    const from = input + (done << 3);
    const to = output + (done << 3);
    if (!blocks || pause != 0 || lanes < 8) {
      const length = min<u32>(count - done, BLOCK_LANES);
      const finished = oneByOne(space, from, to, length, access);
      done += finished;
      if (finished != length) return done;
      if (pause != 0) pause--;
      continue;
    }
    const outcome = walkBlock(space, from, to, lanes, access);
    if (outcome == BLOCK_REFUSED) {
      pause = 1;
      continue;
    }
    if (outcome == BLOCK_FAILED) {
      const failed = listFailed(space, to, lanes);
      const finished = finishFailed(space, from, to, lanes, failed, access);
      if (finished != lanes) return done + finished;
      if (failed > lanes >> 1 && kernel == KERNEL_AUTO) pause = PAUSE;
    }
    done += lanes;
  }
  return done;
}

/** Some of the addresses have more than 32 bits. */
function anyWide(input: usize, count: u32): bool {
  const end = input + ((<usize>(count & ~1)) << 3);
  let all = v128.splat<u64>(count % 2 != 0 ? load<u64>(end) : 0);
  for (let at = input; at < end; at += 16) all = v128.or(all, v128.load(at));
  return (v128.extract_lane<u64>(all, 0) | v128.extract_lane<u64>(all, 1)) >> 32 != 0;
}

/** Every address by itself. Returns how many were done. */
function oneByOne(space: Space, input: usize, output: usize, count: u32, access: u32): u32 {
  for (let i: u32 = 0; i < count; i++) {
    const address = load<u64>(input + (i << 3));
    const fast = walkFastInline(space, address, access);
    const result = <i64>fast >= 0 ? fast : walkOn(space, address, access, fast);
    if (result == MISSING) return i;
    store<u64>(output + (i << 3), result);
  }
  return count;
}

/** Lists the lanes that the block kernel left, without a branch that depends on the data. Returns how many. */
function listFailed(space: Space, output: usize, lanes: u32): u32 {
  const list = lanesOf(space);
  let failed: u32 = 0;
  for (let i: u32 = 0; i < lanes; i++) {
    store<u32>(list + (failed << 2), i);
    failed += <u32>(load<u64>(output + (i << 3)) == NOT_FAST);
  }
  return failed;
}

/** Finishes the listed lanes. Returns `lanes`, or the lane whose page has to be read first. */
function finishFailed(space: Space, input: usize, output: usize, lanes: u32, failed: u32, access: u32): u32 {
  const list = lanesOf(space);
  for (let i: u32 = 0; i < failed; i++) {
    const lane = load<u32>(list + (i << 2));
    const address = load<u64>(input + (lane << 3));
    const fast = walkFast(space, address, access);
    const result = <i64>fast >= 0 ? fast : walkOn(space, address, access, fast);
    if (result == MISSING) return lane;
    store<u64>(output + (lane << 3), result);
  }
  return lanes;
}
