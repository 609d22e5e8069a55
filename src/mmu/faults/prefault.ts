/** Many faults in one call of the core (`Vcpu.prefault`). */
import { SHADOW_CODES } from "../../abi/shadow.js";
import { checkArray, checkInteger } from "../../checks.js";
import { FaultLanes } from "../../core/mmu/fault-lanes.js";
import { enterGuest } from "../roots/root-requests.js";
import type { VcpuFaults } from "./faults.js";

const { NEED_HOST_PAGE, RET_PF_RETRY, RET_PF_EMULATE, RET_PF_WRITE_PROTECTED } = SHADOW_CODES;
const { RET_PF_FIXED, RET_PF_SPURIOUS, RET_PF_INJECT } = SHADOW_CODES;
/** Addresses that one call of the core gets. */
const LANES = 512;

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
  const { core, tdp } = faults.vm;
  if (tdp === undefined && faults.cpu.linearWidth === 32) checkLinear32(faults, addresses);
  const { length } = addresses;
  const [addressesNow, resultsNow] = [core.lasting(addresses), core.lasting(results)];
  enterGuest(faults.vm, faults.cpu);
  const lanes = new FaultLanes(core, LANES);
  let missing = 0;
  try {
    for (let done = 0; done < length; done += LANES) {
      const count = Math.min(LANES, length - done);
      lanes.fill(addressesNow().subarray(done, done + count));
      faultLanes(faults, lanes, count, errorCode);
      const words = lanes.results(count);
      resultsNow().set(words, done);
      for (let lane = 0; lane < count; lane++) {
        const code = words[lane]! & 0xff;
        if (code !== RET_PF_FIXED && code !== RET_PF_SPURIOUS) missing++;
      }
    }
  } finally {
    lanes.dispose();
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

/** Faults at the first `count` lanes, answering the core where it stops. */
function faultLanes(faults: VcpuFaults, lanes: FaultLanes, count: number, errorCode: number): void {
  const { pages } = faults.vm;
  const { core } = faults.cpu;
  for (let next = 0; next < count; next++) {
    if (!pages.caches.stocked) faults.stock();
    next = core.faultBatch(lanes, next, count, errorCode);
    if (next === count) return;
    let code = lanes.result(next);
    if (code >= NEED_HOST_PAGE) code = faults.attend(code);
    if (code === RET_PF_RETRY) {
      // A root went, or a range was being invalidated: once more with what an entry to the guest brings up to date.
      enterGuest(faults.vm, faults.cpu);
      code = faults.fault(lanes.low(next), lanes.high(next), errorCode);
    }
    // No access stands behind it that could be made again.
    if (code === RET_PF_WRITE_PROTECTED) code = RET_PF_EMULATE;
    lanes.setResult(next, code === RET_PF_INJECT ? code | (faults.injectedCode << 8) : code);
  }
}
