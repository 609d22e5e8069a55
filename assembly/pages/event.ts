/** Trace events: fixed-size records in a buffer that the host drains. Off when `vm.events` is 0. */
import { Event, ShadowPage, Vm } from "../abi/records";
import { EV_MARK_MMIO, EV_SET_SPTE } from "../abi/shadow";

// @ts-ignore: decorator
@inline export function tracing(vm: Vm): bool {
  return vm.events != 0;
}

export function emit(vm: Vm, type: u32, a: u32, b: u32, c: u32, x: u64, y: u64, z: u64): void {
  const count = vm.eventCount;
  if (count == vm.eventCapacity) {
    vm.eventLost++;
    return;
  }
  const event = changetype<Event>(vm.events + <usize>count * Event.SIZE);
  event.type = type;
  event.a = a;
  event.b = b;
  event.c = c;
  event.x = x;
  event.y = y;
  event.z = z;
  vm.eventCount = count + 1;
}

/** An event about a shadow page: A role, B root count, C created | unsync << 1 | generation << 2, X gfn. */
export function emitPage(vm: Vm, type: u32, sp: ShadowPage, created: u32): void {
  if (!tracing(vm)) return;
  const state = created | (sp.unsync << 1) | (sp.generation << 2);
  emit(vm, type, sp.role, sp.rootCount, state, sp.gfn, 0, 0);
}

/** X gfn, Y new value, Z host-physical address of the SPTE, A level. */
export function emitSetSpte(vm: Vm, level: u32, gfn: u64, spte: u64, address: u64): void {
  if (tracing(vm)) emit(vm, EV_SET_SPTE, level, 0, 0, gfn, spte, address);
}

export function emitMarkMmio(vm: Vm, gfn: u64, spte: u64, address: u64): void {
  if (tracing(vm)) emit(vm, EV_MARK_MMIO, 0, 0, 0, gfn, spte, address);
}
