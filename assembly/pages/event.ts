/** Trace events: fixed-size records in a buffer that the host drains. Off when VM_EVENTS is 0. */
import {
  EV_MARK_MMIO,
  EV_SET_SPTE,
  EVENT_A,
  EVENT_B,
  EVENT_C,
  EVENT_SIZE_OF,
  EVENT_TYPE,
  EVENT_X,
  EVENT_Y,
  EVENT_Z,
  SP_GENERATION,
  SP_GFN,
  SP_ROLE,
  SP_ROOT_COUNT,
  SP_UNSYNC,
  VM_EVENT_CAPACITY,
  VM_EVENT_COUNT,
  VM_EVENT_LOST,
  VM_EVENTS,
} from "../abi/shadow";

// @ts-ignore: decorator
@inline export function tracing(vm: usize): bool {
  return load<u32>(vm, VM_EVENTS) != 0;
}

export function emit(vm: usize, type: u32, a: u32, b: u32, c: u32, x: u64, y: u64, z: u64): void {
  const count = load<u32>(vm, VM_EVENT_COUNT);
  if (count == load<u32>(vm, VM_EVENT_CAPACITY)) {
    store<u32>(vm, load<u32>(vm, VM_EVENT_LOST) + 1, VM_EVENT_LOST);
    return;
  }
  const record = <usize>load<u32>(vm, VM_EVENTS) + <usize>count * EVENT_SIZE_OF;
  store<u32>(record, type, EVENT_TYPE);
  store<u32>(record, a, EVENT_A);
  store<u32>(record, b, EVENT_B);
  store<u32>(record, c, EVENT_C);
  store<u64>(record, x, EVENT_X);
  store<u64>(record, y, EVENT_Y);
  store<u64>(record, z, EVENT_Z);
  store<u32>(vm, count + 1, VM_EVENT_COUNT);
}

/** An event about a shadow page: A role, B root count, C created | unsync << 1 | generation << 2, X gfn. */
export function emitPage(vm: usize, type: u32, sp: usize, created: u32): void {
  if (!tracing(vm)) return;
  const state = created | (load<u32>(sp, SP_UNSYNC) << 1) | (load<u32>(sp, SP_GENERATION) << 2);
  emit(vm, type, load<u32>(sp, SP_ROLE), load<u32>(sp, SP_ROOT_COUNT), state, load<u64>(sp, SP_GFN), 0, 0);
}

/** X gfn, Y new value, Z host-physical address of the SPTE, A level. */
export function emitSetSpte(vm: usize, level: u32, gfn: u64, spte: u64, address: u64): void {
  if (tracing(vm)) emit(vm, EV_SET_SPTE, level, 0, 0, gfn, spte, address);
}

export function emitMarkMmio(vm: usize, gfn: u64, spte: u64, address: u64): void {
  if (tracing(vm)) emit(vm, EV_MARK_MMIO, 0, 0, 0, gfn, spte, address);
}
