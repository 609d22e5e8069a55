/** Mistakes of meaning in GPA aliases. */
import type { Planted } from "./planted.js";

const at = (path: string) => (rule: string, original: string, text: string) => ({ rule, path, original, text });
const alias = at("assembly/shadow/alias.ts");
const fault = at("assembly/shadow/fault.ts");
const fetch = at("assembly/shadow/fetch.ts");
const flush = at("assembly/shadow/flush.ts");
const gpte = at("assembly/shadow/gpte.ts");
const walk = at("assembly/shadow/guest-walk.ts");
const leaf = at("assembly/shadow/leaf.ts");
const prefetch = at("assembly/shadow/prefetch.ts");
const iterator = at("assembly/tdp/iterator.ts");
const map = at("assembly/tdp/map.ts");
const page = at("assembly/tdp/page.ts");
const aliases = at("src/mmu/aliases.ts");
const context = at("src/mmu/context.ts");
const slots = at("src/mmu/memslots.ts");
const vcpu = at("src/mmu/vcpu.ts");
const vm = at("src/mmu/vm.ts");

export const PLANTED_ALIASES: readonly Planted[] = [
  alias("pages of aliases have one name", "return <u32>(alias >> FIRST_BIT) << LOW_SHIFT;", "return 0;"),
  alias("execute-only grants reading", "VM_EXECUTE_ONLY) ? ACC_EXEC :", "VM_EXECUTE_ONLY) ? ACC_ALL & ~2 :"),
  fault("a direct fault's gfn keeps alias bits", "direct ? gfnOfAddress(vm, address) :", "direct ? address >> 12 :"),
  fault("the VM's own page has aliases", "slot != 0 && isInternal(slot) ? 0 : slot;", "false ? 0 : slot;"),
  fault("execute-only is not enforced", "violatesAlias(vcpu, address, error)) return", "false) return"),
  fault(
    "an injected violation has no P bit",
    "store<u32>(vcpu, error | PFERR_P, VCPU_GW_ERROR);",
    "store<u32>(vcpu, error, VCPU_GW_ERROR);",
  ),
  fetch("classic tables serve every alias", "shadows ? 0 : aliasBits(", "true ? 0 : aliasBits("),
  fetch("L2's addresses are taken for aliases", "const alias = shadows ? 0 : aliasBits(", "const alias = aliasBits("),
  flush("an address flush forgets the alias", "if (mask != 0) note(vm, gfn | mask, pages);", ""),
  flush("two alias bits are flushed by ranges", "popcnt<u64>(mask) > 1", "popcnt<u64>(mask) > 2"),
  gpte(
    "prefetch and sync take the alias for the gfn",
    "SPACE_ADDRESS_MASK)) >> 12;",
    "SPACE_ADDRESS_MASK) | gpte & 0x000ffffffffff000) >> 12;",
  ),
  walk("a walk's address loses alias bits", "gpa | leafAlias(vm, mmu, leaf)", "gpa"),
  leaf("the slot's memory type is ignored", "memtype != 0 && slot != 0 && hasMemtype(slot)", "false"),
  prefetch("aliases of the VM's own page are prefetched", "(alias != 0 && isInternal(slot))", "false"),
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
  vcpu("an emulated write misses its page", "const plain = gpa & ~this.vm.limits.aliasMask;", "const plain = gpa;"),
  vm(
    "mappings outlive a change of the bits",
    "    this.exports.zapAll(this.pointer);\n    this.settle();\n    this.#applyAliases",
    "    this.#applyAliases",
  ),
];
