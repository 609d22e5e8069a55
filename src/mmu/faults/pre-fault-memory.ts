/** Populating guest-physical memory ahead of the guest (KVM_PRE_FAULT_MEMORY, kvm_arch_vcpu_pre_fault_memory of Linux 6.12). */
import { SHADOW_CODES } from "../../abi/shadow.js";
import { enterGuest } from "../roots/root-requests.js";
import type { VcpuFaults } from "./faults.js";
import { FAULT_CODE } from "./outcome.js";

const PAGE_BYTES = 4096n;
/** A page that is being looked up can be taken away in the meantime; a host that does so each time is left alone. */
const MOST_RETRIES = 1000;

/** How a request ended; what is left of it, from `gpa` on, is to be asked for again where nothing is the matter. */
export interface PreFaulted {
  readonly gpa: bigint;
  /** Bytes. */
  readonly size: bigint;
  /** Why nothing at all was done, as the kernel's error numbers have it. */
  readonly error?: "EINVAL" | "EOPNOTSUPP" | "ENOENT" | "EAGAIN";
}

/** See Vcpu.preFaultMemory. */
export function preFaultMemory(faults: VcpuFaults, gpa: bigint, size: bigint): PreFaulted {
  const whole = { gpa, size };
  const aligned = gpa % PAGE_BYTES === 0n && size % PAGE_BYTES === 0n;
  if (!aligned || size === 0n || (gpa + size) >> 64n !== 0n) return { ...whole, error: "EINVAL" };
  // Shadow paging maps linear addresses; so do the tables that stand for L1's second stage, of L2's.
  if (faults.vm.tdp === undefined || !faults.cpu.isDirect) return { ...whole, error: "EOPNOTSUPP" };
  let left: PreFaulted = whole;
  while (left.size !== 0n) {
    const done = populate(faults, left.gpa);
    if (typeof done === "string") return left.size === size ? { ...left, error: done } : left;
    const end = done < left.gpa + left.size ? done : left.gpa + left.size;
    left = { gpa: end, size: left.size - (end - left.gpa) };
  }
  return left;
}

/** Maps the page of one address; the address behind what it lies in. */
function populate(faults: VcpuFaults, gpa: bigint): bigint | "ENOENT" | "EAGAIN" {
  const { cpu } = faults;
  if (!enterGuest(faults.vm, cpu)) return "ENOENT";
  for (let attempt = 0; attempt < MOST_RETRIES; attempt++) {
    const code = faults.ahead(gpa);
    if (code === FAULT_CODE.retry) continue;
    if (code === FAULT_CODE.wait) return "EAGAIN";
    const mapped =
      code === FAULT_CODE.fixed || code === FAULT_CODE.spurious || code === SHADOW_CODES.RET_PF_WRITE_PROTECTED;
    if (!mapped) return "ENOENT";
    const bytes = PAGE_BYTES << BigInt(9 * (cpu.core.record.fGoalLevel - 1));
    return (gpa & ~(bytes - 1n)) + bytes;
  }
  return "EAGAIN";
}
