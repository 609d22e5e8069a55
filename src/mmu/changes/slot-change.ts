/** Adding, deleting, moving and changing memslots (kvm_set_memslot and kvm_mmu_slot_apply_flags of Linux 6.1). */
import { SHADOW_CODES } from "../../abi/shadow.js";
import { MMIO_GENERATION } from "../../abi/spte.js";
import type { HostPage, SlotConfig } from "../config/config.js";
import type { Machine } from "../machine/machine.js";
import { flagsOf, type Memslot } from "../memory/memslots.js";

import { flushSlot } from "./flushes.js";
import { splitNestedHugePages } from "./split-huge.js";

/** Least limit on shadow pages, and guest pages that allow one more. */
export const MIN_PAGES = 64;
const PAGES_PER_SHADOW_PAGE = 50;
const { MEMSLOT_LOG, MEMSLOT_READONLY, MEMSLOT_INVALID } = SHADOW_CODES;
const { RANGE_CLEAR_DIRTY, RANGE_COLLAPSE, RANGE_PROTECT, RANGE_ZAP } = SHADOW_CODES;

/** Throws ConfigError or OutOfMemoryError with nothing changed. */
export function changeSlot(vm: Machine, config: SlotConfig): void {
  const space = config.addressSpace ?? 0;
  const change = vm.slots.classify(config);
  if (change === "none") return;
  const old = vm.slots.find(space, config.id);
  const log = config.logDirty ?? false;
  const initial = vm.initiallyDirty;
  const fresh =
    change === "create" || change === "move" ? vm.slots.prepare(config, old, log ? { initial } : undefined) : undefined;
  const found = fresh && lookAt(vm, fresh);
  if (change === "flags" && log) {
    if (!initial) vm.tdpMmu?.reserveSplits(old!);
    old!.core.startLog(initial);
  }

  if (change === "delete" || change === "move") {
    vm.slots.setFlags(old!, old!.flags | MEMSLOT_INVALID);
    swap(vm, space);
    // No shadow page and no SPTE for the slot may be left.
    if (vm.zapsAll) vm.core.zapAllFast();
    else zapSlot(vm, old!);
    vm.settle();
    vm.slots.remove(old!);
    vm.hostPages.forget(old!);
  }
  if (fresh !== undefined && found !== undefined) {
    vm.slots.add(fresh);
    vm.hostPages.fill(fresh, found);
  }
  const oldFlags = old?.flags ?? 0;
  if (change === "flags") vm.slots.setFlags(old!, flagsOf(config));
  swap(vm, space);
  if (change === "create" || change === "delete") updateLimit(vm);
  if (change === "flags") applyFlags(vm, old!, oldFlags);
  if (change === "delete" || change === "move") vm.slots.release(old!);
}

/** The host may fail: nothing has changed yet. */
function lookAt(vm: Machine, fresh: Memslot): Map<bigint, HostPage> {
  try {
    return vm.hostPages.look(fresh);
  } catch (error) {
    vm.slots.release(fresh);
    throw error;
  }
}

/** Only what maps the slot, and the shadow pages of tables in it (kvm_mmu_zap_memslot_pages_and_flush). */
function zapSlot(vm: Machine, slot: Memslot): void {
  const end = slot.base + BigInt(slot.pages);
  if (vm.core.forRange(slot.core, slot.base, end, 1, 3, RANGE_ZAP) !== 0) vm.core.flushRemote();
  const gfns = new Set(vm.pages.active().map((page) => vm.core.pages.header(page).gfn));
  const inside = [...gfns].filter((gfn) => gfn >= slot.base && gfn < end).sort((a, b) => (a < b ? -1 : 1));
  for (const gfn of inside) vm.unprotect(gfn);
}

function swap(vm: Machine, space: number): void {
  vm.slots.swap(space, (generation) => {
    // The generation in MMIO SPTEs has few bits: when they wrap (bit 0 apart: there are two address spaces), old SPTEs must
    // not come to life again.
    if ((generation & MMIO_GENERATION) >> 1n === 0n) {
      vm.core.zapAllFast();
      vm.settle();
    }
  });
}

function updateLimit(vm: Machine): void {
  if (vm.requestedPages !== 0) return;
  const limit = Math.max(Math.floor(vm.slots.totalPages / PAGES_PER_SHADOW_PAGE), MIN_PAGES);
  vm.core.setLimit(limit);
  vm.settle();
}

function applyFlags(vm: Machine, slot: Memslot, oldFlags: number): void {
  const toggled = (oldFlags ^ slot.flags) & MEMSLOT_LOG;
  if (toggled === 0 || slot.flags & MEMSLOT_READONLY) return;
  const end = slot.base + BigInt(slot.pages);
  if ((slot.flags & MEMSLOT_LOG) === 0) {
    slot.core.stopLog();
    // Small pages that logging made can become large again.
    vm.core.forRange(slot.core, slot.base, end, 1, 2, RANGE_COLLAPSE);
    flushSlot(vm, slot);
  } else if (!vm.initiallyDirty) {
    splitNestedHugePages(vm, slot, slot.base, end);
    vm.tdpMmu?.split(slot, slot.base, end);
    // The log takes care of pages whose D bit is clear; large ones are split at their first write.
    const logged = vm.pageModificationLog;
    if (logged) vm.core.forRange(slot.core, slot.base, end, 1, 1, RANGE_CLEAR_DIRTY);
    vm.core.forRange(slot.core, slot.base, end, logged ? 2 : 1, 3, RANGE_PROTECT);
    flushSlot(vm, slot);
  }
}
