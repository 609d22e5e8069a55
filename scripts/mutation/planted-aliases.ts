/** Mistakes of meaning in GPA aliases. */
import type { Planted } from "./planted.js";

const at = (path: string) => (rule: string, original: string, text: string) => ({ rule, path, original, text });
const alias = at("assembly/pages/alias.ts");
const fault = at("assembly/fault/fault.ts");
const fetch = at("assembly/fault/fetch.ts");
const flush = at("assembly/pages/flush.ts");
const gpte = at("assembly/guest/gpte.ts");
const walk = at("assembly/guest/guest-walk.ts");
const dirty = at("assembly/tdp/dirty.ts");
const sync = at("assembly/shadow/sync.ts");
const zap = at("assembly/shadow/zap.ts");
const leaf = at("assembly/shadow/leaf.ts");
const prefetch = at("assembly/shadow/prefetch.ts");
const iterator = at("assembly/tdp/iterator.ts");
const map = at("assembly/fault/map.ts");
const page = at("assembly/tdp/page.ts");
const aliases = at("src/mmu/config/aliases.ts");
const context = at("src/mmu/context/context.ts");
const dirtyLog = at("src/mmu/changes/dirty-log.ts");
const notifier = at("src/mmu/changes/notifier.ts");
const slots = at("src/mmu/memory/memslots.ts");
const vcpu = at("src/mmu/vcpu.ts");
const vcpuFaults = at("src/mmu/faults/faults.ts");
const vm = at("src/mmu/vm.ts");

export const PLANTED_ALIASES: readonly Planted[] = [
  alias("pages of aliases have one name", "return <u32>(alias >> FIRST_BIT) << LOW_SHIFT;", "return 0;"),
  alias("execute-only grants reading", "VM_EXECUTE_ONLY) ? ACC_EXEC :", "VM_EXECUTE_ONLY) ? ACC_ALL & ~2 :"),
  fault("a direct fault's gfn keeps alias bits", "direct ? gfnOfAddress(vm, address) :", "direct ? address >> 12 :"),
  fault("the VM's own page has aliases", "isHidden(slot, gfn ^ (gpa >> 12)) ? 0 : slot;", "slot;"),
  fault("execute-only is not enforced", "violatesAlias(vcpu, address, error)) return", "false) return"),
  fault(
    "an injected violation has no P bit",
    "store<u32>(vcpu, error | PFERR_P, VCPU_GW_ERROR);",
    "store<u32>(vcpu, error, VCPU_GW_ERROR);",
  ),
  fetch("classic tables serve every alias", "const alias = aliasBits(", "const alias: u64 = !shadows ? 0 : aliasBits("),
  fetch("L2's addresses are taken for aliases", "shadows ? load<u64>(vcpu, VCPU_GW_GPA) : address;", "address;"),
  fetch(
    "L1's large pages of all aliases have one table",
    "const alias = aliasBits(",
    "const alias: u64 = shadows ? 0 : aliasBits(",
  ),
  flush("an address flush forgets the alias", "if (mask != 0) note(vm, gfn | mask, pages);", ""),
  flush("two alias bits are flushed by ranges", "popcnt<u64>(mask) > 1", "popcnt<u64>(mask) > 2"),
  gpte(
    "prefetch and sync take the alias for the gfn",
    "SPACE_ADDRESS_MASK)) >> 12;",
    "SPACE_ADDRESS_MASK) | gpte & 0x000ffffffffff000) >> 12;",
  ),
  walk("a walk's address loses alias bits", "gpa | (gpteAlias(vm, mmu, leaf) << 12)", "gpa"),
  leaf("the slot's memory type is ignored", "memtype != 0 && slot != 0 && hasMemtype(slot)", "false"),
  prefetch("aliases of the VM's own page are prefetched", "isHidden(slot, alias)", "false"),
  prefetch(
    "L1's aliases of the VM's own page are prefetched",
    "isHidden(slot, gpteAlias(load<u32>(vcpu, VCPU_VM), mmu, gpte))",
    "false",
  ),
  prefetch("prefetching grants what an alias does not", "& aliasRights(vm, alias);", ";"),
  iterator("only the plain range is walked", "const next = ((alias | ~mask) + 1) & mask;", "const next: u64 = 0;"),
  iterator("an alias is walked to the end of the root", "iterIndex(tdp) <= (load<u64>(tdp, TDP_LAST) | alias)", "true"),
  iterator(
    "the gfn keeps alias bits",
    "return iterIndex(tdp) & ~load<u64>(tdp, TDP_ALIAS_MASK);",
    "return iterIndex(tdp);",
  ),
  map(
    "TDP tables do not know their alias",
    "makeTable(vcpu, sptep, (address >> 12) & ~(pagesOf(level) - 1), level);",
    "makeTable(vcpu, sptep, base, level);",
  ),
  map("the TDP MMU grants what an alias does not", "const rights = directRights(vcpu);", "const rights: u32 = 7;"),
  page(
    "a TDP page's gfn keeps alias bits",
    "store<u64>(sp, plainGfn(vm, gfn), SP_GFN);",
    "store<u64>(sp, gfn, SP_GFN);",
  ),
  aliases("bits below 32 can be taken", "if (mask & ((1n << 32n) - 1n)) throw", "if (false) throw"),
  aliases("bits that PSE-36 reaches can be taken", "if (mask & ((1n << BigInt(first)) - 1n)) {", "if (mask === -1n) {"),
  aliases("PSE-36 ends at 36", "Math.max(PSE36_KVM, Math.min(PSE36_MOST, physical))", "PSE36_KVM"),
  aliases("bits that no table translates can be taken", "if (mask >> BigInt(width) !== 0n) throw", "if (false) throw"),
  aliases("a slot may lie over an alias", "base / bit !== last / bit", "false"),
  context("alias bits are reserved for guests", 'this.name === "nested_mmu" ? 0n : limits.aliasMask', "0n"),
  context("L2's own tables have aliases", 'this.name === "nested_mmu" ? 0n : limits.aliasMask', "limits.aliasMask"),
  context("direct EPT forbids execution alone", "limits.executeOnlyAliases !== 0n);", "false);"),
  context("new alias bits do not reach the formats", "if (!this.#stale && cpu.base", "if (cpu.base"),
  slots(
    "a slot's gfns may have alias bits",
    "if (!isPlain(base, config.size / 4096, this.aliasMask)) {",
    "if (base < 0n) {",
  ),
  vcpu(
    "CR3 takes alias bits",
    "if (this.walkMmu !== this.nestedMmu && value & this.vm.limits.aliasMask) {",
    "if (value < 0n) {",
  ),
  vcpu("nested EPT is entered with aliases", "else if (limits.aliasMask !== 0n)", "else if (limits.aliasMask < 0n)"),
  vcpu(
    "L1's root may have an alias",
    'if (stage.kind === "npt") this.#checkRoot(stage.ncr3);',
    'if (stage.kind === "npt") return;',
  ),
  vm("an alias of guest memory is no memory", "const gfn = this.gfnOf(gpa);", "const gfn = gpa >> 12n;"),
  vm(
    "the VM's own page is memory through an alias",
    "slot.flags & MEMSLOT_INTERNAL && gfn !==",
    "slot.flags & 0 && gfn !==",
  ),
  vcpu(
    "RSM takes alias bits in CR3",
    "    this.#checkCr3(registers.cr3);\n    this.#setSpace(false);",
    "    this.#setSpace(false);",
  ),
  vcpu(
    "an exit to L1 takes alias bits in CR3",
    "    this.#checkRoot(registers.cr3);\n    if (this.mmu.isEpt",
    "    if (this.mmu.isEpt",
  ),
  vcpu("a silent CR3 takes alias bits", "this.#checkCr3(changed.cr3 ?? 0n);", ""),
  vcpuFaults("a fetched page is mapped where its address was an alias", "this.vm.gfnOf(address) === gfn", "true"),
  vcpuFaults("a fetched page of an execute-only alias is not mapped", "fetches ? PFERR.fetch : 0", "0"),
  dirty(
    "the last word of a slot reaches into another alias",
    "const end = gfn + 64 - clz<u64>(mask);",
    "const end = gfn + 64;",
  ),
  iterator("an empty range at 0 is everything", "if (end == 0) store", "if (false) store"),
  sync(
    "an entry that gets alias bits keeps the VM's own page",
    "entryGfn(vm, sp, index) || hidden) {",
    "entryGfn(vm, sp, index)) {",
  ),
  sync(
    "an entry that loses alias bits keeps leading nowhere",
    "mmioGfn(vm, old) || appears) clear",
    "mmioGfn(vm, old)) clear",
  ),
  flush("ranges are flushed by L1's gfns where L2's addresses map them", "load<u32>(vm, VM_INDIRECT) != 0 ||", ""),
  zap(
    "roots of the TDP MMU go without a flush",
    "zapInvalidRoots(vm);\n    // The kernel leaves this to the next root's load, which flushes the vCPU.\n    flushRemote(vm);",
    "zapInvalidRoots(vm);",
  ),
  dirtyLog(
    "a round of the log ends without a flush",
    "if (pages.length > 0 && vm.manualDirtyLog === 0) flushSlot(vm, slot);",
    "",
  ),
  dirtyLog("clearing the log does not flush", "if (cleared) flushSlot(vm, slot);", ""),
  notifier(
    "one page is flushed where a large page was",
    "const pages = 1n << BigInt(9 * Math.max(level - 1, 0));",
    "const pages = 1n;",
  ),
  vm(
    "mappings outlive a change of the bits",
    "    this.exports.zapAll(this.pointer);\n    this.settle();\n    this.#applyAliases",
    "    this.#applyAliases",
  ),
];
