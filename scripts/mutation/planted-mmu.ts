/** Mistakes of meaning in the shadow MMU, in SPTE construction, in roles and in what the host does around them. */
import type { Planted } from "./planted.js";

const at = (path: string) => (rule: string, original: string, text: string) => ({ rule, path, original, text });
const shadow = (name: string) => at(`assembly/shadow/${name}.ts`);
const fault = shadow("fault");
const guestWrite = shadow("guest-write");
const l2 = shadow("l2-walk");
const leaf = shadow("leaf");
const level = shadow("huge-level");
const make = shadow("make-page");
const mmio = shadow("mmio");
const page = shadow("page");
const prefetch = shadow("prefetch");
const recover = shadow("recover");
const split = shadow("split");
const sync = shadow("sync");
const unsync = shadow("unsync");
const update = shadow("update");
const zap = shadow("zap");
const spte = at("assembly/spte/make.ts");
const predicates = at("assembly/spte/predicates.ts");
const caches = at("src/mmu/context/root-cache.ts");
const contextRoles = at("src/mmu/context/context-roles.ts");
const dirtyLog = at("src/mmu/changes/dirty-log.ts");
const invalidation = at("src/mmu/roots/invalidation.ts");
const notifier = at("src/mmu/changes/notifier.ts");
const pdptes = at("src/mmu/roots/pdpte-registers.ts");
const registers = at("src/mmu/config/control-registers.ts");
const slotChange = at("src/mmu/changes/slot-change.ts");
const vcpu = at("src/mmu/vcpu.ts");
const cpuRole = at("src/role/cpu-role.ts");
const rootRole = at("src/role/root-role.ts");

export const PLANTED_MMU: readonly Planted[] = [
  fault(
    "a look-up that a notifier ran into is used",
    "return load<u32>(vm, VM_INVALIDATE_SEQ) != load<u32>(vcpu, VCPU_F_SEQ);",
    "return false;",
  ),
  fault("a gap below a current root is not noticed", "|| load<u32>(root, SP_GAP) != 0) return true;", ") return true;"),
  fault("CR0.WP=0 leaves the user his right", "(access | ACC_WRITE) & ~ACC_USER;", "access | ACC_WRITE;"),
  fault(
    "CR0.WP=0 lets SMEP's supervisor execute",
    "if (load<u32>(mmu, MMU_FLAGS) & MMU_SMEP) changed &= ~ACC_EXEC;",
    "",
  ),
  fault("a fast fault logs the first page of a large one", "logged = level > 1 && slot != 0 && logsWrites(slot);", ""),
  fault("a tracked page becomes writable", "if (writesTracked(vcpu)) {", "if (false) {"),
  fault("a fast fault does not log", "if (isWritable(fixed) && !isWritable(spte)) markDirty", "if (false) markDirty"),
  guestWrite("flooding takes one write more", "const FLOOD: u32 = 3;", "const FLOOD: u32 = 4;"),
  guestWrite("a byte at an entry's start zaps the page", "(offset & (size - 1)) == 0 && bytes == 1", "false"),
  guestWrite("half a PAE entry zaps the page", "load<u32>(vcpu, VCPU_PAE) != 0 && bytes == 4", "false"),
  guestWrite("a 4-byte directory entry has one SPTE", "for (let n = pairs ? 2 : 1;", "for (let n = 1;"),
  guestWrite("tables that share a page are one", "offset -= low & 0xfe0;", ""),
  guestWrite(
    "a write reaches other quadrants",
    "if (offset >> 12 != (role & ROLE_QUADRANT) >> ROLE_QUADRANT_SHIFT) return 0;",
    "",
  ),
  l2("L2's frame number is logged as L1's", "load<u64>(vcpu + (i << 3), VCPU_L2_GFN);", "gpa >> 12;"),
  l2(
    "L2's tables are read only, not written",
    "translate(vcpu, second, table, TABLE_ACCESS)",
    "translate(vcpu, second, table, 4)",
  ),
  leaf("another host page keeps the old leaf", "} else if (addressOf(vm, old) != page) {", "} else if (false) {"),
  leaf("a writable leaf is not logged", "if (spte & SPTE_W && logsWrites(slot)) {", "if (false) {"),
  leaf(
    "a leaf is writable where the host's page is not",
    "!forFault || load<u32>(vcpu, VCPU_F_MAP_WRITABLE) != 0;",
    "true;",
  ),
  leaf("a prefetched page looks accessed", "if (prefetch) spte = trackAccess(vm, spte);", ""),
  leaf(
    "a denied write is retried for ever",
    "VCPU_F_ERROR) & PFERR_W) != 0) result = RET_PF_EMULATE;",
    "VCPU_F_ERROR) & PFERR_W) != 0) result = RET_PF_FIXED;",
  ),
  level("writes are logged by large pages", "|| slot == 0 || logsWrites(slot)) return;", "|| slot == 0) return;"),
  level(
    "the mitigation lets large pages execute",
    "VM_NX_HUGE) != 0 && (load<u32>(vcpu, VCPU_F_ERROR) & PFERR_I) != 0;",
    "VM_NX_HUGE) == 7;",
  ),
  make("a shadowed table stays writable", "if (protectGfn(vm, slot, gfn, 1)) flushRemote(vm);", ""),
  make(
    "an unsync table is linked without a mark",
    "if (load<u32>(sp, SP_UNSYNC) != 0 || load<u32>(sp, SP_UNSYNC_CHILDREN) != 0) markUnsync(vm, sptep);",
    "",
  ),
  make("the root forgets its PDPTEs", "if (low & LOW_LATCHED) latch(vcpu, sp);", ""),
  mmio("an old MMIO SPTE is still good", "if (current != mmioGeneration(spte)) return RET_PF_INVALID;", ""),
  mmio(
    "the cache outlives a slot change",
    "if (load<u64>(vcpu, VCPU_MMIO_GENERATION) != normalGeneration(vcpu)) return false;",
    "",
  ),
  page("quadrants of level 2 are the index's low bit", "level == 2 ? index & 3 : index & 1", "index & 1"),
  page("promotion ends a level below the guest's root", "if (level <= above) role &=", "if (level < above) role &="),
  page(
    "a page keeps being a pae_root below level 3",
    "ROLE_QUADRANT | ROLE_PAE_ROOT | ROLE_GUEST_LEVEL",
    "ROLE_QUADRANT | ROLE_GUEST_LEVEL",
  ),
  prefetch("prefetching logs pages nobody wrote", "avoidLog && (access & ACC_WRITE) != 0", "false"),
  prefetch(
    "without A bits direct pages are prefetched",
    "if (adDisabled(sp) || levelOf(sp) > 1",
    "if (levelOf(sp) > 1",
  ),
  recover(
    "what was forbidden last comes back first",
    "order < load<u32>(found, SP_NO_HUGE)",
    "order > load<u32>(found, SP_NO_HUGE)",
  ),
  recover("only the TDP MMU's pages come back", "earliest(vm + VM_ACTIVE, 0)", "0"),
  split("pages of L1 are split too", "(ROLE_GUEST_MODE | ROLE_INVALID)) == ROLE_GUEST_MODE", "ROLE_INVALID) == 0"),
  split(
    "a shared page's entries are written again",
    "      if (!isLast(old, levelOf(sp))) flush = true;\n      continue;",
    "      if (!isLast(old, levelOf(sp))) flush = true;",
  ),
  split("splitting does not mind the page limit", "if (!hasRoomToSplit(vm)) {", "if (false) {"),
  sync("a page of another role is synchronised", "& ~VARYING) != 0) {", "& ~VARYING) == 1) {"),
  sync("unsync pages stay before an upper-level page", "if (load<u32>(other, SP_UNSYNC) != 0) zapPage(vm, other);", ""),
  sync(
    "synchronised tables stay writable",
    "if (slot != 0 && protectGfn(vm, slot, gfnOf(sp), 1)) protectedNow = true;",
    "",
  ),
  sync(
    "a found page is used unsync",
    "if (load<u32>(sp, SP_UNSYNC) != 0) {\n      const result",
    "if (false) {\n      const result",
  ),
  sync(
    "rights of a page are not the entries' limit",
    "pageAccess & gpteAccess(mmu, gpte), gpte);",
    "gpteAccess(mmu, gpte), gpte);",
  ),
  sync("a quadrant reads the first half", "return ram + (<usize>((roleOf(sp)", "return ram + 0 * (<usize>((roleOf(sp)"),
  unsync("an upper-level table becomes unsync", "isTracked(vm, slot, gfn) || !unsyncPages(", "!unsyncPages("),
  unsync("prefetching unsyncs tables", "if (prefetch) return false;", ""),
  unsync(
    "direct pages of the gfn count as tables",
    "|| isObsolete(vm, sp) || !hasGptes(sp)) continue;\n    if (!mayUnsync)",
    "|| isObsolete(vm, sp)) continue;\n    if (!mayUnsync)",
  ),
  update("lost rights need no flush", "if (isMmuWritable(vm, old) && !isWritable(spte)) return true;", ""),
  update("ageing reports every page", "if (!isAccessed(vm, spte)) return false;", ""),
  zap("nested pages without a parent stay", "if (collecting && orphan && collectible) return zapPage(vm, child);", ""),
  zap("a zapped table stays counted", "if (!wasInvalid && hasGptes(sp)) unaccount(vm, sp);", ""),
  zap(
    "roots in use are recycled",
    "load<u32>(sp, SP_ROOT_COUNT) != 0 || isAboveGuest(sp) || isPartOfRoot(vm, sp)",
    "isAboveGuest(sp) || isPartOfRoot(vm, sp)",
  ),
  spte(
    "a nested guest's pages rely on the log",
    "else if (load<u32>(vm, VM_CPU_DIRTY_LOG) != 0 && (role & ROLE_GUEST_MODE) != 0)",
    "else if (false)",
  ),
  spte(
    "a changed page stays writable",
    "const writable = writableBits(vm) | load<u64>(vm, VM_HOST_WRITABLE);",
    "const writable: u64 = 0;",
  ),
  spte(
    "split pages of the mitigation cannot execute",
    "spte = (spte & ~load<u64>(vm, VM_NX)) | load<u64>(vm, VM_X);",
    "",
  ),
  spte("a tracked entry keeps no rights", "spte | ((spte & SPTE_SAVED_BITS) << SPTE_SAVED_SHIFT)", "spte"),
  predicates(
    "the encryption bit is an address bit",
    "return SPTE_ADDRESS & ~load<u64>(vm, VM_ME_VALUE);",
    "return SPTE_ADDRESS;",
  ),
  caches("roots of other tables are reused", "if (root.pgd !== pgd || words", "if (words"),
  caches(
    "other PDPTEs are the same root",
    "if (words[header + PAGE_WORD.pdptes + i] !== words[latched + i]) return false;",
    "",
  ),
  contextRoles(
    "L1's NPT starts at L1's own level",
    "const level = vm.tdp?.level ?? roleLevel(cpu.base);",
    "const level = roleLevel(cpu.base);",
  ),
  dirtyLog("a page of the other large page is not protected", "if (first >> 9n !== last >> 9n) vm", "if (false) vm"),
  invalidation(
    "INVLPG of a non-canonical address counts",
    "return BigInt.asUintN(64, BigInt.asIntN(WIDTH[level]!, address)) === address;",
    "return true;",
  ),
  invalidation(
    "previous roots keep the address",
    "for (let i = 0; i < 3; i++) this.through(context, context.roots.previous(i).page, address);",
    "",
  ),
  invalidation(
    "other EPTPs of the table keep the address",
    "if (sameEptTable(root.pgd, context.pgd)) this",
    "if (false) this",
  ),
  notifier("a changed page is prefetched as it was", "vm.hostPages.change(slot, gfn, page);", ""),
  pdptes(
    "VM entry looks at CR3",
    "this.#hardware = fields ?? this.#fields ?? this.#tryRead(cr3) ?? this.#hardware;",
    "this.#hardware = this.#tryRead(cr3) ?? this.#hardware;",
  ),
  pdptes(
    "the VM exit saves nothing",
    "  exitNested(): void {\n    this.#fields = this.#hardware;",
    "  exitNested(): void {\n    this.#fields = undefined;",
  ),
  registers(
    "CR4.SMEP does not reload PDPTEs",
    "const CR4_PDPTR = CR4.pge | CR4.pse | CR4.pae | CR4.smep;",
    "const CR4_PDPTR = CR4.pge | CR4.pse | CR4.pae;",
  ),
  registers("PCIDs start without giving up roots", "freesRoots: startsPcid,", "freesRoots: false,"),
  registers("paging begins without long mode", "if (lme && paging !== wasPaging)", "if (false)"),
  slotChange(
    "a deleted slot leaves its SPTEs",
    "    vm.exports.zapAll(vm.pointer);\n    vm.settle();\n    vm.slots.remove",
    "    vm.slots.remove",
  ),
  slotChange("the generation wraps unnoticed", "if ((generation & 0x7ffffn & ~1n) === 0n) {", "if (false) {"),
  slotChange("logging ends without large pages", "RANGE.collapse);", "RANGE.testAge);"),
  slotChange("nested guests' huge pages are not split", "splitNestedHugePages(vm, slot, slot.base, end);", ""),
  invalidation(
    "INVPCID keeps previous roots of the PCID",
    "if (enabled) roots.freeWhere((_, pgd) => (pgd & PCID) === pcid, false);",
    "",
  ),
  vcpu(
    "a no-flush CR3 write flushes",
    "if (!noFlush) this.#invalidation.pcid(pcid);",
    "this.#invalidation.pcid(pcid);",
  ),
  vcpu(
    "INVEPT keeps the current root",
    'eptp === "all" || sameEptTable(pgd, eptp), true);',
    'eptp === "all" || sameEptTable(pgd, eptp), false);',
  ),
  vcpu(
    "an L2 without paging of its own keeps L1's root",
    "if (this.mmu === this.rootMmu) this.#requests.newPgd(numbers.cr3);",
    "",
  ),
  cpuRole(
    "two levels need CR4.PSE",
    "return registers.cr4 & CR4_PAE ? 3 : 2;",
    "return registers.cr4 & CR4_PAE ? 3 : registers.cr4 & CR4_PSE ? 2 : 0;",
  ),
  cpuRole("SMAP is forgotten with CR0.WP=0", "if (cr4 & CR4_SMAP) base |= role.ROLE_SMAP_ANDNOT_WP;", ""),
  cpuRole("nested tables have protection keys", "cr4: registers.cr4 & ~CR4_PKE", "cr4: registers.cr4"),
  rootRole(
    "pae_root asks for paging",
    "root = role.withFlag(root, role.ROLE_PAE_ROOT, level === PAE_LEVEL);",
    "root = role.withFlag(root, role.ROLE_PAE_ROOT, level === PAE_LEVEL && guestRootLevel > 0);",
  ),
  rootRole(
    "a direct root has a guest level",
    "return role.withGuestLevel(root, direct ? 0 : guestRootLevel);",
    "return role.withGuestLevel(root, guestRootLevel);",
  ),
];
