/** Reading the snapshot of a step: contexts, roots and shadow pages. */
import type { JsonField } from "./json-field.js";
import type { RecordedContext, RecordedPage, Snapshot, SpecialRoot } from "./recording.js";
import type { ControlRegisters } from "./state.js";

export function readRegisters(field: JsonField): ControlRegisters {
  return {
    cr0: field.get("cr0").u64(),
    cr3: field.get("cr3").u64(),
    cr4: field.get("cr4").u64(),
    efer: field.get("efer").u64(),
  };
}

/** An object whose keys are table indices and whose values are 64-bit words. */
function readIndexed(field: JsonField, limit: number): Map<number, bigint> {
  const entries = new Map<number, bigint>();
  for (const key of Object.keys(field.object())) {
    const index = Number(key);
    if (!/^\d+$/.test(key) || index >= limit) field.fail(`indices from 0 to ${limit - 1} as keys (found ${key})`);
    entries.set(index, field.get(key).u64());
  }
  return entries;
}

function readSpecialRoot(field: JsonField): SpecialRoot {
  return { hpa: field.get("pa").u64(), entries: readIndexed(field.get("e"), 512) };
}

function readContext(field: JsonField): RecordedContext {
  const permissions = field.get("perm").text();
  if (!/^[0-9a-f]{32}$/.test(permissions)) field.get("perm").fail("16 bytes as 32 hex digits");
  return {
    rootPgd: field.get("root_pgd").u64(),
    rootHpa: field.get("root_hpa").u64(),
    cpuRole: field.get("cpu_role").u64(),
    rootRole: field.get("root_role").int(),
    previousRoots: field.get("prev").map((item) => {
      const pair = item.array();
      if (pair.length !== 2) item.fail("[pgd, hpa]");
      return { pgd: pair[0]!.u64(), hpa: pair[1]!.u64() };
    }),
    permissions: Array.from({ length: 16 }, (_, index) =>
      Number.parseInt(permissions.slice(index * 2, index * 2 + 2), 16),
    ),
    pkruMask: field.get("pkru_mask").int(),
    guestReserved: field.get("grsvd").map((item) => item.u64()),
    shadowZero: field.get("szero").map((item) => item.u64()),
    pdptrs: field.get("pdptrs").map((item) => item.u64()),
    paeRoot: field.get("pae_root").maybe(readSpecialRoot),
    pml4Root: field.get("pml4_root").maybe(readSpecialRoot),
    pml5Root: field.get("pml5_root").maybe(readSpecialRoot),
  };
}

function readPage(field: JsonField): RecordedPage {
  return {
    hpa: field.get("spt").u64(),
    role: field.get("role").int(),
    gfn: field.get("gfn").u64(),
    rootCount: field.get("rc").int(),
    unsync: field.get("unsync").flag(),
    unsyncChildren: field.get("uc").int(),
    validGen: field.get("gen").int(),
    writeFlooding: field.get("flood").int(),
    nxHugePageDisallowed: field.get("nohuge").flag(),
    tdp: field.get("tdp").flag(),
    entries: readIndexed(field.get("e"), 512),
    shadowed: field.get("st").maybe((item) => readIndexed(item, 512)),
  };
}

/** The kernel's counter of TDP pages, which has to be what the recorder found by walking. */
function readTdpPages(field: JsonField): number | undefined {
  const counted = field.get("tdp_mmu_pages").maybe((item) => item.int());
  const walked = field.get("tdp_walked").maybe((item) => item.int());
  if (counted !== walked) field.get("tdp_walked").fail(`tdp_mmu_pages, ${counted}`);
  field.get("shadow_root_allocated").maybe((item) => item.flag());
  return counted;
}

/** The `snap` of a step. */
export function readSnapshot(field: JsonField): Snapshot {
  const mmio = field.get("mmio").array();
  if (mmio.length !== 4) field.get("mmio").fail("[gva, gfn, access, generation]");
  return {
    vcpu: field.get("vcpu").intFrom(0, 1023),
    active: field.get("mmu").oneOf("root_mmu", "guest_mmu"),
    walking: field.get("walk_mmu").oneOf("root_mmu", "nested_mmu"),
    registers: readRegisters(field),
    hflags: field.get("hflags").u64(),
    usedPages: field.get("used").int(),
    validGen: field.get("gen").int(),
    mmio: { gva: mmio[0]!.u64(), gfn: mmio[1]!.u64(), access: mmio[2]!.int(), gen: mmio[3]!.u64() },
    rootMmu: readContext(field.get("root_mmu")),
    guestMmu: field.get("guest_mmu").maybe(readContext),
    nestedMmu: field.get("nested_mmu").maybe(readContext),
    pages: field.get("sps").map(readPage),
    indirectPages: field.get("indirect").maybe((item) => item.int()),
    tdpPages: readTdpPages(field),
  };
}
