/** What the host's notifier does to the leaves of a range of gfns. */
import { Vm } from "../abi/records";
import { changedPageSpte, trackAccess } from "../spte/make";
import { adEnabled, isAccessed } from "../spte/predicates";
import { EXCLUSIVE, setIterated, setLogged } from "./change";
import { iterIsLeaf, iterLevel, iterNext, iterOld, iterStart, iterValid } from "./iterator";
import { tdpOf } from "./page";
import { firstRoot, nextRoot } from "./root";

/** Zaps the leaves of gfns [start, end) of an address space, in invalid roots too; returns whether there was one. */
export function zapLeaves(vm: Vm, space: u32, start: u64, end: u64): bool {
  const tdp = tdpOf(vm);
  let flush = false;
  for (let root = firstRoot(tdp, space, true); root != null; root = nextRoot(tdp, root!, space, true)) {
    for (iterStart(vm, root, 1, start, end); iterValid(tdp); iterNext(tdp)) {
      if (!iterIsLeaf(tdp)) continue;
      setLogged(vm, vm.empty);
      flush = true;
    }
  }
  return flush;
}

/** Whether a leaf of the range was accessed; with `reset` the next access is noticed again. */
export function ageLeaves(vm: Vm, space: u32, start: u64, end: u64, reset: bool): bool {
  const tdp = tdpOf(vm);
  let young = false;
  for (let root = firstRoot(tdp, space, true); root != null; root = nextRoot(tdp, root!, space, true)) {
    for (iterStart(vm, root, 1, start, end); iterValid(tdp); iterNext(tdp)) {
      const spte = iterOld(tdp);
      if (!iterIsLeaf(tdp) || !isAccessed(vm, spte)) continue;
      young = true;
      if (!reset) continue;
      setLogged(vm, adEnabled(spte) ? spte & ~vm.accessed : trackAccess(vm, spte));
    }
  }
  return young;
}

/**
 * The host put `page` (an address) behind `gfn`: zap, and where it must not be written yet map it at once. Of a huge leaf
 * the page is only a part, so the leaf goes whatever the page is. Returns the level of the largest leaf, 0 for none.
 */
export function changeLeaf(vm: Vm, space: u32, gfn: u64, page: u64, writable: bool): u32 {
  const tdp = tdpOf(vm);
  let found: u32 = 0;
  for (let root = firstRoot(tdp, space, true); root != null; root = nextRoot(tdp, root!, space, true)) {
    for (iterStart(vm, root, 1, gfn, gfn + 1); iterValid(tdp); iterNext(tdp)) {
      if (!iterIsLeaf(tdp)) continue;
      const spte = iterOld(tdp);
      const level = iterLevel(tdp);
      setLogged(vm, vm.empty);
      if (!writable && level == 1) setIterated(vm, changedPageSpte(vm, spte, page), EXCLUSIVE);
      found = max<u32>(found, level);
    }
  }
  return found;
}
