/** Mistakes of meaning in the TDP MMU. */
import type { Planted } from "./planted.js";

const tdp = (name: string) => (rule: string, original: string, text: string) => ({
  rule,
  path: `assembly/tdp/${name}.ts`,
  original,
  text,
});
const change = tdp("change");
const dirty = tdp("dirty");
const huge = tdp("huge");
const iterator = tdp("iterator");
const map = tdp("map");
const page = tdp("page");
const range = tdp("range");
const root = tdp("root");

export const PLANTED_TDP: readonly Planted[] = [
  change("an exclusive removal marks empty entries too", "if (!shared && !isPresent(old)) continue;", ""),
  change("the removed marker stays in a zapped entry", "pagesOf(level));\n  store<u64>(sptep, 0);", "pagesOf(level));"),
  change("tables that are cut off are never freed", "  freePage(vm, sp);\n", ""),

  dirty("D is cleared where no log relies on it", "protect || adNeedsWriteProtect(spte) ?", "protect ?"),
  dirty("a mask is one page off", "(<u64>1 << (iterGfn(tdp) - gfn))", "(<u64>2 << (iterGfn(tdp) - gfn))"),
  dirty("logging begins without write protection", "!iterIsLeaf(tdp) || !isWritable(iterOld(tdp))", "true"),

  huge("huge pages are not split", "load<u32>(tdp, TDP_POOL_COUNT) != 0) split(vm);", "false) split(vm);"),
  huge("tables stay when logging ends", "zapShared(vm, iterSpace(tdp), iterSptep(tdp), gfn, level);", ""),

  iterator("the way down goes to an old gfn", "store<u64>(tdp, gfn + pagesOf(level), TDP_NEXT_GFN);", ""),
  iterator(
    "a table is entered that was replaced",
    "const spte = load<u64>(iterSptep(tdp));",
    "const spte = iterOld(tdp);",
  ),

  map("a huge page replaces the mitigation's table", "if (nxHuge) keepSmall(vcpu, load<u64>(sptep), level);", ""),
  map("the mitigation's tables are not marked", "noteForbidden(vm, sp);", ";"),
  map("a huge page hides the wanted table", "if (isPresent(spte) && isLarge(spte)) zapShared", "if (false) zapShared"),

  page("a page from the pool keeps its entries", "memory.fill(table, 0, 4096);", ""),

  range("a read-only change only zaps", "if (!writable && level == 1) setIterated", "if (false) setIterated"),
  range("a huge page is changed in part", "if (!writable && level == 1) setIterated", "if (!writable) setIterated"),
  range(
    "ageing relies on A bits that do not exist",
    "adEnabled(spte) ? spte & ~load<u64>(vm, VM_ACCESSED) : trackAccess(vm, spte)",
    "spte & ~load<u64>(vm, VM_ACCESSED)",
  ),
  range(
    "only the first root is unmapped",
    "export function zapLeaves(vm: usize, space: u32, start: u64, end: u64): bool {",
    "export function zapLeaves(vm: usize, space: u32, start: u64, end: u64): bool {\n  space = 0;",
  ),

  root("the TDP MMU has no reference of its own", "addReferences(root, 2);", "addReferences(root, 1);"),
  root("invalid roots are loaded again", "store<u32>(root, roleOf(root) | ROLE_INVALID, SP_ROLE);", ""),
  root("roots are freed one reference early", "if (count != 0) return;", "if (count != 1) return;"),
];
