/** Many faults in one call of the core (`Vcpu.prefault`). */
import { SHADOW_CODES } from "../../abi/shadow.js";
import { checkArray, checkInteger } from "../../checks.js";
import { lasting } from "../../core/batch.js";
import { enterGuest } from "../roots/root-requests.js";
import type { VcpuFaults } from "./faults.js";

const { NEED_HOST_PAGE, RET_PF_RETRY, RET_PF_FIXED, RET_PF_SPURIOUS, RET_PF_INJECT } = SHADOW_CODES;
/** Addresses that one call of the core gets. */
const LANES = 512;
const ADDRESS_BYTES = LANES * 8;
const BYTES = ADDRESS_BYTES + LANES * 4;

/** See Vcpu.prefault. */
export function prefault(
  faults: VcpuFaults,
  addresses: BigUint64Array,
  results: Uint32Array,
  errorCode: number,
): number {
  checkArray(addresses, "BigUint64Array", "addresses");
  checkArray(results, "Uint32Array", "results");
  checkInteger(errorCode, 0, 0xffffffff, "error code");
  if (results.length < addresses.length) {
    throw new RangeError(`results has room for ${results.length} words, expected at least ${addresses.length}`);
  }
  const { linear, tdp } = faults.vm;
  if (tdp === undefined && faults.cpu.linearWidth === 32) checkLinear32(faults, addresses);
  const { length } = addresses;
  const [addressesNow, resultsNow] = [lasting(addresses, linear), lasting(results, linear)];
  enterGuest(faults.vm, faults.cpu);
  const input = linear.allocate(BYTES);
  const output = input + ADDRESS_BYTES;
  let missing = 0;
  try {
    for (let done = 0; done < length; done += LANES) {
      const count = Math.min(LANES, length - done);
      linear.u64.set(addressesNow().subarray(done, done + count), input / 8);
      faultLanes(faults, { input, output, count, errorCode });
      const words = linear.u32.subarray(output / 4, output / 4 + count);
      resultsNow().set(words, done);
      for (let lane = 0; lane < count; lane++) {
        const code = words[lane]! & 0xff;
        if (code !== RET_PF_FIXED && code !== RET_PF_SPURIOUS) missing++;
      }
    }
  } finally {
    linear.free(input, BYTES);
  }
  return missing;
}

/** Refuses addresses of more than 32 bits, by their halves: about a nanosecond each, where bigints take five. */
function checkLinear32(faults: VcpuFaults, addresses: BigUint64Array): void {
  const halves = new Uint32Array(addresses.buffer, addresses.byteOffset, addresses.length * 2);
  for (let high = 1; high < halves.length; high += 2) {
    if (halves[high] !== 0) faults.cpu.checkLinear(addresses[high >> 1]!);
  }
}

interface Lanes {
  readonly input: number;
  readonly output: number;
  readonly count: number;
  readonly errorCode: number;
}

/** Faults at every lane, answering the core where it stops. */
function faultLanes(faults: VcpuFaults, { input, output, count, errorCode }: Lanes): void {
  const { exports, linear, pages } = faults.vm;
  for (let next = 0; next < count; next++) {
    if (!pages.caches.stocked) faults.stock();
    next = exports.faultBatch(faults.pointer, input, output, next, count, errorCode);
    if (next === count) return;
    let code = linear.u32[output / 4 + next]!;
    if (code >= NEED_HOST_PAGE) code = faults.attend(code);
    if (code === RET_PF_RETRY) {
      // A root went, or a range was being invalidated: once more with what an entry to the guest brings up to date.
      enterGuest(faults.vm, faults.cpu);
      const at = input / 8 + next;
      const half = linear.u32.subarray(at * 2, at * 2 + 2);
      code = faults.fault(half[0]!, half[1]!, errorCode);
    }
    linear.u32[output / 4 + next] = code === RET_PF_INJECT ? code | (faults.injectedCode << 8) : code;
  }
}
