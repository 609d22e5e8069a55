/**
 * Shadow-stack accesses (CET): which pages they may use. Only the full walks know of them: their access word has the bit of
 * implicit accesses too, which no fast walk and no TLB takes.
 */
import { ACCESS_SHADOW_STACK, ACCESS_USER, EPT_SSS, PFERR_U, PTE_D, PTE_RW, PTE_US, PTE_XD } from "../abi/bits";
import {
  FEATURE_KVM,
  FEATURE_SHADOW_STACK_CHECK,
  KIND_GUEST,
  MODE_PAE,
  RIGHT_USER,
  RIGHT_WRITE,
  WALK_SHADOW_STACK,
  WALK_SUPERVISOR_STACK,
} from "../abi/codes";
import { Space } from "../abi/records";
import { denies } from "./permissions";

/** WALK_* flags of a shadow-stack access. */
// @ts-ignore: decorator
@inline export const STACK_FLAGS: u32 = WALK_SHADOW_STACK | WALK_SUPERVISOR_STACK;

/** The WALK_* flags that the access word stands for. KVM's walk of Linux 6.1 takes no notice of shadow stacks. */
export function stackFlags(space: Space, access: u32): u32 {
  if (!(access & ACCESS_SHADOW_STACK) || (space.features & FEATURE_KVM) != 0) return 0;
  return access & ACCESS_USER ? WALK_SHADOW_STACK : STACK_FLAGS;
}

/** Whether a fault tells that the access was a shadow-stack one. */
export function reportsStack(space: Space, flags: u32): bool {
  return (flags & WALK_SHADOW_STACK) != 0 && !(space.features & FEATURE_KVM);
}

/**
 * Whether legacy tables refuse a shadow-stack access: `rights` of all entries, `above` without those of leaf `entry`.
 * A guest's own allow it only to a shadow-stack address (SDM "Determination of Access Rights"): R/W=0 and D=1 in the leaf, R/W=1
 * above, and of the access's own mode. To NPT it is a read or write like others, but where supervisor ones are checked.
 */
export function deniesStack(space: Space, code: u32, flags: u32, rights: u32, above: u32, entry: u64): bool {
  const writable = (above & RIGHT_WRITE) != 0;
  if (space.kind == KIND_GUEST) {
    const page = writable && (entry & (PTE_RW | PTE_D)) == PTE_D;
    return !page || ((code & PFERR_U) != 0) != ((rights & RIGHT_USER) != 0);
  }
  if (flags & WALK_SUPERVISOR_STACK && checksStacks(space)) return !writable || !isNestedStackLeaf(entry);
  return denies(space, code, rights);
}

/** Whether NPT checks supervisor shadow-stack accesses: PAE and NXE in the host are needed (APM "Supervisor Shadow Stacks"). */
function checksStacks(space: Space): bool {
  return (space.features & FEATURE_SHADOW_STACK_CHECK) != 0 && space.mode >= MODE_PAE && space.xdMask != 0;
}

/** A nested leaf designates a supervisor shadow-stack page by NX=1 and U/S=0. */
// @ts-ignore: decorator
@inline function isNestedStackLeaf(entry: u64): bool {
  return (entry & (PTE_XD | PTE_US)) == PTE_XD;
}

/** Whether a nested fault reports such a leaf. */
export function reportsStackLeaf(space: Space, entry: u64): bool {
  return checksStacks(space) && isNestedStackLeaf(entry);
}

/**
 * Whether EPT with supervisor shadow-stack control allows a supervisor shadow-stack access (SDM "EPT Violations"): the leaf
 * designates such a page, all entries are readable, and all above the leaf writable, whatever its own W.
 */
export function isEptStackPage(rights: u32, above: u32, entry: u64): bool {
  return (rights & RIGHT_USER) != 0 && (above & RIGHT_WRITE) != 0 && (entry & EPT_SSS) != 0;
}
