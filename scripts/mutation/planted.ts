/** Mistakes of meaning, which changing one sign does not make: each breaks a rule that implementations get wrong. */

export interface Planted {
  readonly rule: string;
  readonly path: string;
  /** Text that stands once in the file, and what replaces it. */
  readonly original: string;
  readonly text: string;
}

const walk = (name: string) => (rule: string, original: string, text: string) => ({
  rule,
  path: `assembly/walk/${name}.ts`,
  original,
  text,
});
const legacy = walk("legacy");
const ept = walk("ept");
const second = walk("second-stage");
const reserved = walk("reserved");
const permissions = walk("permissions");
const configure = walk("configure");
const enumerate = walk("enumerate");
const plan = walk("plan");
const resolve = (rule: string, original: string, text: string) => ({
  rule,
  path: "assembly/memory/resolve.ts",
  original,
  text,
});

export const PLANTED: readonly Planted[] = [
  legacy("D is set by a fetch", "(code & <u32>PFERR_W) != 0 ? PTE_D : 0;", "(code & <u32>0x12) != 0 ? PTE_D : 0;"),
  legacy("D is set in every level", "const dirty = leaf && (code", "const dirty = (code"),
  legacy("a probe sets accessed bits", "if (!(flags & WALK_PROBE)) {", "{"),
  legacy(
    "A is set in a PAE PDPTE",
    "      table = entry & addressMask;\n      level = 2;",
    "      if (pointer) wantUpdate(work, stage, pointer, 8, entryAddress, entry, entry | PTE_A);\n" +
      "      table = entry & addressMask;\n      level = 2;",
  ),
  legacy(
    "RSVD is reported without P",
    "const reserved = <u32>PFERR_P | <u32>PFERR_RSVD;",
    "const reserved = <u32>PFERR_RSVD;",
  ),
  legacy(
    "reserved bits count in an entry that is not present",
    "if (!(entry & PTE_P)) return",
    "if (!(entry & PTE_P) && !(entry & reservedBits(space, level, entry))) return",
  ),
  legacy(
    "permissions win over reserved bits of the entry below",
    "    rights &= rightsOf(space, entry);\n",
    "    rights &= rightsOf(space, entry);\n" +
      "    if (denies(space, code, rights)) return pageFault(space, work, <u32>PFERR_P, address, code, flags, level, entryAddress, entry);\n",
  ),
  legacy("rights are those of the leaf alone", "rights &= rightsOf(space, entry);", "rights = rightsOf(space, entry);"),
  legacy(
    "a PDPTE's R/W and U/S bits take rights away",
    "      table = entry & addressMask;\n      level = 2;",
    "      rights &= rightsOf(space, entry);\n      table = entry & addressMask;\n      level = 2;",
  ),
  legacy("latched PDPTEs are read in each walk", "if (pdpte && latched) {", "if (false) {"),
  legacy("PSE-36's address bits are dropped", "return page | highAddress4M(", "return page | 0 * highAddress4M("),
  legacy("PSE-36 has 36 bits on every processor", "features & FEATURE_PSE36 ? 0xff", "features & FEATURE_PSE36 ? 0xf"),
  legacy(
    "guest tables are not taken through the second stage",
    "hostAddress = load<u64>(work, WORK_SECOND_PA);",
    "hostAddress = entryAddress;",
  ),
  legacy("the protection key of a denied access is not reported", "<u32>PFERR_P | denied,", "<u32>PFERR_P,"),
  legacy(
    "a protection key is not looked at where rights deny",
    "const denied = keyDenial(space, code, rights, key);",
    "const denied = denies(space, code, rights) ? 0 : keyDenial(space, code, rights, key);",
  ),
  legacy(
    "an unmapped table is reported by the guest's address",
    "hostAddress, address, stage",
    "hostAddress, hostAddress, stage",
  ),
  legacy(
    "error bits 32 and 33 are exchanged",
    "flags & WALK_GUEST_TABLE ? PFERR_GUEST_PAGE : PFERR_GUEST_FINAL",
    "flags & WALK_GUEST_TABLE ? PFERR_GUEST_FINAL : PFERR_GUEST_PAGE",
  ),
  legacy("a wide guest-physical address wraps in NPT", "if (!guest && address >>", "if (false && address >>"),
  legacy("bit 7 of a PTE makes it a large page", "if (level == 1) return true;\n", ""),

  permissions("supervisor writes always respect R/W", "const writeProtect = user || ", "const writeProtect = true || "),
  permissions("WP=0 lets users write", "const writeProtect = user || ", "const writeProtect = "),
  permissions("SMEP binds user fetches", "if (user || !userAddress) return false;", "if (!userAddress) return false;"),
  permissions(
    "SMAP binds fetches",
    "if (fetch) return (cr4 & CR4_SMEP) != 0;",
    "if (fetch && cr4 & CR4_SMEP) return true;",
  ),
  permissions(
    "accesses are checked where paging is off",
    "  if (load<u32>(space, SPACE_MODE) == MODE_NONE) return false;\n",
    "",
  ),
  permissions("PKRS governs user accesses", "code & <u32>PFERR_I || (user && !userAddress)", "code & <u32>PFERR_I"),
  permissions(
    "PKRU governs supervisor addresses",
    "userAddress ? load<u32>(space, SPACE_KEYS_USER) : load<u32>(space, SPACE_KEYS_SUPERVISOR)",
    "load<u32>(space, SPACE_KEYS_USER)",
  ),
  permissions(
    "write-disable ignores WP",
    "return user || (load<u32>(space, SPACE_CR0) & CR0_WP) != 0 ? <u32>PFERR_PK : 0",
    "return <u32>PFERR_PK",
  ),
  permissions("keys bind fetches", "if (code & <u32>PFERR_I || ", "if ("),
  permissions("mode-based execute is judged by the supervisor's bit", "modeBased && userAddress ?", "false ?"),

  walk("access")(
    "implicit accesses heed AC",
    "if (access & ACCESS_IMPLICIT) return kind;",
    "if (access & ACCESS_IMPLICIT) return kind | (access & ACCESS_AC ? <u32>PFERR_RSVD : 0);",
  ),
  walk("access")("implicit accesses are the user's", "if (access & ACCESS_IMPLICIT) return kind;\n", ""),
  walk("access")("masking applies to fetches", "(ACCESS_FETCH | ACCESS_IMPLICIT)", "ACCESS_IMPLICIT"),
  walk("access")("masking applies to implicit accesses", "(ACCESS_FETCH | ACCESS_IMPLICIT)", "ACCESS_FETCH"),
  walk("linear")(
    "5-level addresses are checked as 48 bits wide",
    "return signExtend(address, width) == address;",
    "return signExtend(address, 48) == address;",
  ),
  walk("linear")(
    "masking replaces bit 63 too",
    "(signExtend(address, width) & ~top) | (address & top)",
    "signExtend(address, width)",
  ),
  walk("linear")("the LAM setting follows bit 62", "<i64>address < 0 ?", "<i64>(address << 1) < 0 ?"),

  reserved("MAXPHYADDR is off by one", "const high = bits(width, 51) | xd;", "const high = bits(width + 1, 51) | xd;"),
  reserved(
    "PAE reserves bits 51:MAXPHYADDR only",
    "const high = bits(width, 62) | xd;",
    "const high = bits(width, 51) | xd;",
  ),
  reserved("PDPTE bits 8:5 are free", "bits(1, 2) | bits(5, 8) |", "bits(1, 2) |"),
  reserved("PDPTE bit 63 is free", "bits(5, 8) | bits(width, 63)", "bits(5, 8) | bits(width, 62)"),
  reserved("PS in a PML4E is ignored", "const top = high | PTE_PS |", "const top = high |"),
  reserved("1 GiB pages are always there", "features & FEATURE_PAGE_1G ? 0 : PTE_PS", "0"),
  reserved("bit 8 of a PML4E is always reserved", "(features & FEATURE_AMD_BIT8 ? PTE_G : 0)", "PTE_G"),
  reserved("level 4 of EPT has no reserved bits", "  setReserved(space, 4, table | EPT_PS, table | EPT_PS);\n", ""),
  reserved("EPT tables may carry a memory type", "const table = high | EPT_MEMTYPE | EPT_IPAT;", "const table = high;"),
  reserved(
    "the encryption bit counts as reserved",
    "const checked = ~load<u64>(space, SPACE_ENCRYPTION);",
    "const checked: u64 = ~0;",
  ),
  reserved(
    "the 4 MiB page's bit 21 is free",
    "if (!(features & FEATURE_PSE36)) return bits(13, 21);",
    "if (!(features & FEATURE_PSE36)) return bits(13, 20);",
  ),

  ept(
    "write-only entries are good",
    "if (entry & EPT_W || !(features & FEATURE_EXECUTE_ONLY)) return true;",
    "if (!(features & FEATURE_EXECUTE_ONLY)) return true;",
  ),
  ept(
    "execute-only needs no capability",
    "if (entry & EPT_W || !(features & FEATURE_EXECUTE_ONLY)) return true;",
    "if (entry & EPT_W) return true;",
  ),
  ept("memory types are checked in tables, not in leaves", "return leaf && ((BAD", "return !leaf && ((BAD"),
  ept("D is set whatever EPTP says", "if (accessedDirty && !(flags", "if (!(flags"),
  ept("bit 10 never makes an entry present", "(features & FEATURE_MODE_BASED_EXECUTE ? EPT_XU : 0);", "0;"),
  ept(
    "rights are reported for entries that are not present",
    "return violation(space, work, 0, gpa, code, flags, level, entryAddress, entry);\n    const leaf",
    "return violation(space, work, rights, gpa, code, flags, level, entryAddress, entry);\n    const leaf",
  ),
  ept("a table's access claims to be the final one", "if (!(flags & WALK_GUEST_TABLE)) qualification", "qualification"),
  ept(
    "permissions are checked level by level",
    "    rights &= eptRightsOf(features, entry);\n",
    "    rights &= eptRightsOf(features, entry);\n    if (denies(space, code, rights)) return violation(space, work, rights, gpa, code, flags, level, entryAddress, entry);\n",
  ),

  second(
    "NPT takes a guest-table access for a read",
    "if (load<u32>(second, SPACE_KIND) != KIND_EPT) return true;",
    "if (load<u32>(second, SPACE_KIND) != KIND_EPT) return false;",
  ),
  second("NPT takes the final access for a supervisor's", "return access | <u32>PFERR_U;", "return access;"),
  second(
    "accessed bits in guest tables need no write right",
    "if (writesTables(space, second)) return STATUS_OK;",
    "return STATUS_OK;",
  ),
  second(
    "guest tables' writes claim to be the final access",
    "(flags & ~WALK_TRACE) | WALK_GUEST_TABLE",
    "flags & ~WALK_TRACE",
  ),
  second(
    "PDPTE loads are writes under EPT",
    "const write = kvm || load<u32>(second, SPACE_KIND) != KIND_EPT;",
    "const write = true;",
  ),

  configure(
    "the encryption bit stays in the address",
    "PTE_ADDRESS) & ~load<u64>(space, SPACE_ENCRYPTION);",
    "PTE_ADDRESS);",
  ),
  configure(
    "the encryption bit makes CR3 invalid",
    "load<u64>(space, SPACE_CR3) & ~load<u64>(space, SPACE_ENCRYPTION)",
    "load<u64>(space, SPACE_CR3)",
  ),
  configure("PAE's CR3 is page-aligned", "return cr3 & 0xffffffe0;", "return cr3 & 0xfffff000;"),
  configure(
    "CR4.PSE decides about large pages in every mode",
    "return (1 << 2) | level3;",
    "return (pse ? 1 << 2 : 0) | level3;",
  ),
  configure("XD is ignored in PAE paging", "store<u64>(space, nxe ?", "store<u64>(space, nxe && mode >= MODE_4LEVEL ?"),
  configure(
    "the fetch bit follows NXE in 32-bit paging",
    "const xd = nxe && (mode >= MODE_PAE || kvm);",
    "const xd = nxe;",
  ),
  configure(
    "keys work outside long mode",
    "KIND_GUEST && mode >= MODE_4LEVEL;\n  const cr4",
    "KIND_GUEST;\n  const cr4",
  ),
  configure(
    "LAM_U48 wins over LAM_U57",
    "if (cr3 & CR3_LAM_U57) user = 57;\n  else if (cr3 & CR3_LAM_U48) user = 48;",
    "if (cr3 & CR3_LAM_U48) user = 48;\n  else if (cr3 & CR3_LAM_U57) user = 57;",
  ),
  configure("supervisor masking is always 57 bits wide", "CR4_LAM_SUP ? widthOf(mode) : 0", "CR4_LAM_SUP ? 57 : 0"),

  walk("updates")(
    "entries are stored without comparing",
    "if (atomic.cmpxchg<u64>(pointer, old, updated) != old) return false;",
    "store<u64>(pointer, updated);",
  ),
  walk("updates")(
    "32-bit entries are stored without comparing",
    "if (atomic.cmpxchg<u32>(pointer, <u32>old, <u32>updated) != <u32>old) return false;",
    "store<u32>(pointer, <u32>updated);",
  ),
  walk("updates")(
    "32-bit entries are updated with 64 bits",
    "if (load<u32>(update, UPDATE_BYTES) == 4) {",
    "if (false) {",
  ),
  walk("pdptes")(
    "PDPTEs are latched one by one",
    "for (let pass = 0; pass < 2; pass++)",
    "for (let pass = 1; pass < 2; pass++)",
  ),
  walk("pdptes")(
    "PDPTEs are read from guest-physical memory",
    "hostAddress = load<u64>(work, WORK_SECOND_PA);",
    "hostAddress = entryAddress;",
  ),
  walk("refused")(
    "a batch leaves accessed bits alone",
    "const status = run(space, address, access, 0);\n  if (status == STATUS_MISSING_PAGE)",
    "const status = run(space, address, access, 1);\n  if (status == STATUS_MISSING_PAGE)",
  ),
  walk("run")(
    "walk() sets accessed bits",
    "status != STATUS_OK || flags & WALK_TRACE || load",
    "status != STATUS_OK || load",
  ),
  walk("translate")(
    "fault codes are cut to 8 bits",
    "return -1 - <f64>((status << 16) | (load<u32>(work, WORK_CODE) & 0xffff));",
    "return -1 - <f64>((status << 16) | (load<u32>(work, WORK_CODE) & 0xff));",
  ),

  plan("the fast walk ignores D", "const dirty: u64 = code & 2 ? PTE_D : 0;", "const dirty: u64 = 0;"),
  plan("the fast walk ignores reserved bits", "present | leaf | reservedAt(space, 1, 0)", "present | leaf"),
  plan("the fast walk ignores XD of tables", "present | table | xd | tableReserved", "present | table | tableReserved"),
  plan(
    "the fast walk takes the rights of the leaf",
    "present | table | xd | tableReserved",
    "present | xd | tableReserved",
  ),
  plan(
    "the fast walk ignores protection keys",
    "const key: u64 = keys != 0 && !(code & <u32>PFERR_I) ? PTE_PKEY : 0;",
    "const key: u64 = 0;",
  ),
  plan("the fast walk ignores the second stage", "KIND_GUEST && load<u32>(space, SPACE_SECOND) == 0;", "KIND_GUEST;"),

  enumerate("the last entry of a table is not listed", "if (index >= entries) {", "if (index >= entries - 1) {"),
  enumerate(
    "rights are not ANDed on the way down",
    "const rights = above & (",
    "const rights = (true ? 0xf : above) & (",
  ),
  enumerate(
    "addresses of the upper half are not sign-extended",
    "signed ? signExtend(address",
    "false ? signExtend(address",
  ),
  enumerate(
    "entries with reserved bits are listed",
    "return (entry & PTE_P) != 0 && (entry & reservedBits(space, level, entry)) == 0;",
    "return (entry & PTE_P) != 0;",
  ),
  enumerate(
    "misconfigured EPT entries are listed",
    "return !isMisconfigured(space, features, level, isEptLeaf(space, level, entry), entry);",
    "return true;",
  ),
  enumerate("PDPTEs are read from memory though latched", "if (isPdpt(space, level) && !(load", "if (false && !(load"),
  enumerate(
    "a full output loses a leaf",
    "if (count == capacity) break;\n    if (wide",
    "if (count == capacity) {\n      store<u32>(cursor + (level << 2), index + 1, CURSOR_INDEX);\n      break;\n    }\n    if (wide",
  ),

  resolve(
    "the last slot is taken without looking at its size",
    "if (offset < load<u64>(slot, SLOT_SIZE)) return",
    "if (offset < load<u64>(slot, SLOT_SIZE) + 0x1000) return",
  ),
  resolve(
    "the last slot is remembered, not its place",
    "return load<u32>(slot, SLOT_LINEAR) + <u32>(gpa - load<u64>(slot, SLOT_BASE));",
    "return load<u32>(slot, SLOT_LINEAR);",
  ),
  resolve("read-only slots are written", "load<u32>(slot, SLOT_READ_ONLY) == 0 ? pointer : 0", "true ? pointer : 0"),
  resolve(
    "pages of a source are written",
    "return slot != 0 && load<u32>(slot, SLOT_READ_ONLY) == 0 ? pointer : 0;",
    "return slot == 0 || load<u32>(slot, SLOT_READ_ONLY) == 0 ? pointer : 0;",
  ),
  resolve(
    "a page that the source lacks reads as frame 0xfffff",
    "linear == NO_MEMORY ? NO_MEMORY : linear + (<u32>gpa & 0xfff)",
    "linear + (<u32>gpa & 0xfff)",
  ),
  resolve(
    "the search for a page stops at the first that is not it",
    "if (found == 0) return NOT_READ;",
    "return NOT_READ;",
  ),
];
