/**
 * The common fault in one piece: a guest of four levels under a root of four, the tables linked as the guest has them, the
 * host page there, the leaf missing or already right. It decides everything before it changes anything; whatever else
 * it meets is RET_PF_INVALID, and fault.ts does the whole fault. The rules are those of fault.ts, fetch.ts and leaf.ts.
 */
import { PFERR_W, PTE_A, PTE_D, PTE_P } from "../abi/bits";
import { MODE_4LEVEL } from "../abi/codes";
import { ShadowPage, Vcpu, Vm } from "../abi/records";
import {
  ROLE_ACCESS,
  ROLE_ACCESS_SHIFT,
  ROLE_AD_DISABLED,
  ROLE_DIRECT,
  ROLE_GUEST_LEVEL,
  ROLE_GUEST_LEVEL_SHIFT,
  ROLE_GUEST_MODE,
  ROLE_INVALID,
  ROLE_LEVEL,
  ROLE_LEVEL_PROMOTED,
} from "../abi/role";
import {
  FORMAT_64,
  HOST_PRESENT,
  HOST_WRITABLE,
  RET_PF_FIXED,
  RET_PF_INVALID,
  RET_PF_SPURIOUS,
  SHADOWED_GFN_SHIFT,
} from "../abi/shadow";
import { ACC_EXEC, ACC_USER, ACC_WRITE, SPTE_ADDRESS, SPTE_MMU_PRESENT, SPTE_PS } from "../abi/spte";
import { accessKind } from "../guest/table-walk";
import { firstInChain } from "../pages/chain";
import { findSlotInline, hostPage, isTrackedInline } from "../pages/slot";
import { addToRmap, isReservedSpte } from "../shadow/leaf";
import { hasRoom } from "../shadow/page-limit";
import { BLOCK, prefetchFault } from "../shadow/prefetch";
import { unsyncPages } from "../shadow/unsync";
import { checkedLeaf } from "../spte/check";
import { commonLeaf } from "../spte/make";
import { isPresent, isWritable } from "../spte/predicates";
import { planOf } from "../walk/plan";

/** What a root's role has to be, and in which bits. */
// @ts-ignore: decorator
@inline const ROOT_MASK: u32 =
  ROLE_LEVEL | ROLE_GUEST_LEVEL | ROLE_DIRECT | ROLE_LEVEL_PROMOTED | ROLE_AD_DISABLED | ROLE_GUEST_MODE | ROLE_INVALID;
// @ts-ignore: decorator
@inline const LEVELS: u32 = 4;
// @ts-ignore: decorator
@inline const ROOT_ROLE: u32 = LEVELS | (LEVELS << ROLE_GUEST_LEVEL_SHIFT);

/** Role of the page of `level` below such a root. */
// @ts-ignore: decorator
@inline function roleBelow(base: u32, level: u32, access: u32): u32 {
  return base | level | (level << ROLE_GUEST_LEVEL_SHIFT) | (access << ROLE_ACCESS_SHIFT);
}

/** Zero where page `sp` shadows table `gpa` (an address) in role `role`. */
// @ts-ignore: decorator
@inline function mismatch(sp: ShadowPage, gpa: u64, role: u32): u64 {
  return (sp.gfn ^ (gpa >> 12)) | (<u64>((sp.role ^ role) | sp.low));
}

/** Header of the page that an SPTE leads to. */
// @ts-ignore: decorator
@inline function pageBelow(map: usize, spte: u64): ShadowPage {
  return load<ShadowPage>(map + ((<usize>((<u32>spte) >> 12)) << 2));
}

// @ts-ignore: decorator
@inline function leadsOn(spte: u64): bool {
  return (spte & (SPTE_MMU_PRESENT | SPTE_PS)) == SPTE_MMU_PRESENT;
}

/** Rights of one entry (rightsOf in assembly/walk/legacy.ts); `xd` is the mask of a bit that forbids execution. */
// @ts-ignore: decorator
@inline function rightsBy(xd: u64, entry: u64): u32 {
  return ((<u32>entry) & (ACC_WRITE | ACC_USER)) | ((entry & xd) == 0 ? ACC_EXEC : 0);
}

/** Maps the neighbours of a leaf; with the first one unusable, the usual case of sparse memory, there is nothing to do. */
// @ts-ignore: decorator
@inline function prefetchQuick(vcpu: Vcpu, sp: ShadowPage, sptep: usize, gpte: usize, gpteGpa: u64): void {
  const index = sptep & ((BLOCK - 1) << 3);
  const neighbour = index == 0 ? 8 : 0;
  const place = sptep - index + neighbour;
  const entry = load<u64>(gpte - index + neighbour);
  if (!isPresent(load<u64>(place)) && (entry & (PTE_P | PTE_A)) != (PTE_P | PTE_A)) {
    store<u64>(place, vcpu.vm.empty);
    return;
  }
  vcpu.setGwPteGpa(0, gpteGpa);
  prefetchFault(vcpu, sp, sptep);
}

/**
 * RET_PF_FIXED, RET_PF_SPURIOUS, or RET_PF_INVALID with nothing changed. A guest's access stands behind the fault, it has no
 * reserved bit, and the caches are stocked.
 */
// @ts-ignore: decorator
@inline export function quickFault(vcpu: Vcpu, vm: Vm, address: u64, error: u32): u32 {
  const mmu = vcpu.mmu;
  const space = mmu.space;
  const root = mmu.root;
  const rootRole = root.role;
  const unusual =
    (<u32>(root == null)) |
    ((rootRole & ROOT_MASK) ^ ROOT_ROLE) |
    (space.fast ^ MODE_4LEVEL) |
    (mmu.format ^ FORMAT_64) |
    (<u32>(mmu.second != null)) |
    vm.askHost |
    vm.invalidateInProgress |
    (<u32>vm.events) |
    root.low |
    root.gap |
    (root.generation ^ vm.validGen);
  if (unusual != 0 || !hasRoom(vm)) return RET_PF_INVALID;

  // The guest's tables, by the plan of the access (assembly/walk/plan.ts): nothing faults and no bit is to be set.
  const plan = planOf(space, accessKind(vcpu, error));
  const slot = space.memory.lastSlot;
  const base = slot.base;
  const size = slot.size;
  const linear: usize = slot.linear;
  const mask = space.addressMask;
  const need = plan.needTable;
  let offset = space.root - base + ((address >> 36) & 0xff8);
  if (offset >= size) return RET_PF_INVALID;
  const entry4 = load<u64>(linear + <usize>offset);
  offset = (entry4 & mask) - base + ((address >> 27) & 0xff8);
  if (offset >= size) return RET_PF_INVALID;
  const entry3 = load<u64>(linear + <usize>offset);
  offset = (entry3 & mask) - base + ((address >> 18) & 0xff8);
  if (offset >= size) return RET_PF_INVALID;
  const entry2 = load<u64>(linear + <usize>offset);
  offset = (entry2 & mask) - base + ((address >> 9) & 0xff8);
  if (offset >= size) return RET_PF_INVALID;
  const gpte = linear + <usize>offset;
  const entry1 = load<u64>(gpte);
  // PS is among what no table entry of a plan may have.
  let wrong = ((entry4 ^ need) | (entry3 ^ need) | (entry2 ^ need)) & plan.checkTable;
  wrong |= (entry1 ^ plan.needLeaf) & plan.checkPage;
  if ((wrong | plan.block) != 0) return RET_PF_INVALID;

  // The shadow tables.
  const map = vm.pageMap;
  const pageBase = rootRole & ~(ROLE_LEVEL | ROLE_ACCESS | ROLE_GUEST_LEVEL);
  const xd = space.xdMask;
  let access = rightsBy(xd, entry4);
  const spte4 = load<u64>(root.spt + <usize>((address >> 36) & 0xff8));
  if (!leadsOn(spte4)) return RET_PF_INVALID;
  const page3 = pageBelow(map, spte4);
  let other = mismatch(page3, entry4 & mask, roleBelow(pageBase, 3, access));
  access &= rightsBy(xd, entry3);
  const spte3 = load<u64>(((<usize>(<u32>spte4)) & ~0xfff) + <usize>((address >> 27) & 0xff8));
  if (!leadsOn(spte3)) return RET_PF_INVALID;
  const page2 = pageBelow(map, spte3);
  other |= mismatch(page2, entry3 & mask, roleBelow(pageBase, 2, access));
  access &= rightsBy(xd, entry2);
  const spte2 = load<u64>(((<usize>(<u32>spte3)) & ~0xfff) + <usize>((address >> 18) & 0xff8));
  if (!leadsOn(spte2)) return RET_PF_INVALID;
  const page1 = pageBelow(map, spte2);
  other |= mismatch(page1, entry2 & mask, roleBelow(pageBase, 1, access));
  access &= rightsBy(xd, entry1);
  if (other != 0) return RET_PF_INVALID;

  // The page itself.
  const write = (error & PFERR_W) != 0;
  if (write) {
    // CR0.WP=0 makes other rights of it.
    if ((access & ACC_WRITE) == 0) return RET_PF_INVALID;
  } else if ((entry1 & PTE_D) == 0) access &= ~ACC_WRITE;
  const gfn = (entry1 & mask) >> 12;
  const memslot = findSlotInline(vm, vcpu.space, gfn);
  if (memslot == null) return RET_PF_INVALID;
  // Read-only, invalid, internal, logged: all need more.
  if (memslot.flags != 0) return RET_PF_INVALID;
  const host = load<u64>(hostPage(memslot, gfn));
  const usable: u64 = HOST_PRESENT | HOST_WRITABLE;
  if ((host & usable) != usable) return RET_PF_INVALID;
  const sptep = ((<usize>(<u32>spte2)) & ~0xfff) + <usize>((address >> 9) & 0xff8);
  const old = load<u64>(sptep);
  let spte = commonLeaf(vm, access) | (host & SPTE_ADDRESS);
  const mapped = old != vm.empty;
  if (mapped) {
    // Right already; the dirty bit stays out where the old leaf was writable (make_spte).
    if (spte != old || (write && isTrackedInline(vm, memslot, gfn))) return RET_PF_INVALID;
  } else {
    if ((access & ACC_WRITE) != 0) {
      if (isTrackedInline(vm, memslot, gfn)) return RET_PF_INVALID;
      spte |= vm.dirty;
    }
    if (isReservedSpte(mmu, spte, 1)) return RET_PF_INVALID;
  }

  root.flood = 0;
  page3.flood = 0;
  page2.flood = 0;
  page1.flood = 0;
  const translation = page1.shadowed + <usize>((address >> 9) & 0xff8);
  if (mapped) {
    store<u64>(translation, (gfn << SHADOWED_GFN_SHIFT) | (<u64>access));
    return RET_PF_SPURIOUS;
  }
  // Its shadow pages become unsync; none of them is of an upper level, which would be tracked.
  if (isWritable(spte) && firstInChain(vm, gfn) != null) unsyncPages(vm, gfn, true, false);
  store<u64>(sptep, checkedLeaf(vm, spte));
  store<u64>(translation, (gfn << SHADOWED_GFN_SHIFT) | (<u64>access));
  addToRmap(vm, memslot, sptep, gfn, 1);
  prefetchQuick(vcpu, page1, sptep, gpte, (entry2 & mask) + ((address >> 9) & 0xff8));
  return RET_PF_FIXED;
}
