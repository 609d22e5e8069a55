/** Dirty logging in the TDP MMU, by write protection or by dirty bits, and write protection for shadowed tables. */
import { Vm } from "../abi/records";
import { KERNEL_RULE_LOG_VALID_ROOTS } from "../abi/shadow";
import { SPTE_W } from "../abi/spte";
import { adNeedsWriteProtect, isWritable } from "../spte/predicates";
import { EXCLUSIVE, SHARED, setIterated } from "./change";
import { iterGfn, iterIsLeaf, iterLevel, iterNext, iterOld, iterStart, iterValid } from "./iterator";
import { tdpOf } from "./page";
import { firstRoot, nextRoot } from "./root";

/** Makes the leaves of `from` and above that map gfns [start, end) read-only until the next write. */
export function protectLeaves(vm: Vm, space: u32, start: u64, end: u64, from: u32): bool {
  const tdp = tdpOf(vm);
  let flush = false;
  for (let root = firstRoot(tdp, space, false); root != null; root = nextRoot(tdp, root!, space, false)) {
    for (iterStart(vm, root, from, start, end); iterValid(tdp); iterNext(tdp)) {
      if (!iterIsLeaf(tdp) || !isWritable(iterOld(tdp))) continue;
      setIterated(vm, iterOld(tdp) & ~SPTE_W, SHARED);
      flush = true;
    }
  }
  return flush;
}

/** What a leaf becomes for the next round of logging: without D, or without W where D says nothing. */
function cleaned(vm: Vm, spte: u64, protect: bool): u64 {
  return protect || adNeedsWriteProtect(spte) ? spte & ~SPTE_W : spte & ~vm.dirty;
}

/** Starts a round of logging for gfns [start, end). */
export function cleanLeaves(vm: Vm, space: u32, start: u64, end: u64): bool {
  const tdp = tdpOf(vm);
  let flush = false;
  for (let root = firstRoot(tdp, space, false); root != null; root = nextRoot(tdp, root!, space, false)) {
    for (iterStart(vm, root, 1, start, end); iterValid(tdp); iterNext(tdp)) {
      if (!iterIsLeaf(tdp)) continue;
      const spte = cleaned(vm, iterOld(tdp), false);
      if (spte == iterOld(tdp)) continue;
      setIterated(vm, spte, SHARED);
      flush = true;
    }
  }
  return flush;
}

/** Whether what is written in invalid roots, too, has to be noticed again. */
function withInvalid(vm: Vm): bool {
  return (vm.rules & KERNEL_RULE_LOG_VALID_ROOTS) == 0;
}

/** Starts a round of logging for the small pages of `mask` (not 0) from `gfn` on. */
export function cleanMasked(vm: Vm, space: u32, gfn: u64, mask: u64, protect: bool): void {
  const tdp = tdpOf(vm);
  const first = gfn + ctz<u64>(mask);
  // A slot's last word is not full: what lies behind the slot may be another alias.
  const end = gfn + 64 - clz<u64>(mask);
  const all = withInvalid(vm);
  for (let root = firstRoot(tdp, space, all); root != null; root = nextRoot(tdp, root!, space, all)) {
    for (iterStart(vm, root, 1, first, end); iterValid(tdp); iterNext(tdp)) {
      if (!iterIsLeaf(tdp) || iterLevel(tdp) > 1 || !(mask & ((<u64>1) << (iterGfn(tdp) - gfn)))) continue;
      const spte = cleaned(vm, iterOld(tdp), protect);
      if (spte != iterOld(tdp)) setIterated(vm, spte, EXCLUSIVE);
    }
  }
}

/** A table of a nested guest lies at `gfn`: nothing may make its leaf of level `from` or above writable meanwhile. */
export function protectTable(vm: Vm, space: u32, gfn: u64, from: u32): bool {
  const tdp = tdpOf(vm);
  let flush = false;
  const all = withInvalid(vm);
  for (let root = firstRoot(tdp, space, all); root != null; root = nextRoot(tdp, root!, space, all)) {
    for (iterStart(vm, root, from, gfn, gfn + 1); iterValid(tdp); iterNext(tdp)) {
      if (!iterIsLeaf(tdp)) continue;
      const spte = iterOld(tdp) & ~(SPTE_W | vm.mmuWritable);
      if (spte == iterOld(tdp)) continue;
      setIterated(vm, spte, EXCLUSIVE);
      flush = true;
    }
  }
  return flush;
}
