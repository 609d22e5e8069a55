/** Reading a recording's configuration: the host, the guest, and KVM's SPTE masks. */
import { hasRule, KERNELS, type Kernel } from "../../abi/kernel-rules.js";
import { EMPTY_BIT_63 } from "../../abi/spte.js";
import type { JsonField } from "./json-field.js";
import type { RecordingConfig } from "./recording.js";
import { readRegisters } from "./snapshot-reader.js";
import type { RecordedMasks } from "./state.js";

function readMasks(field: JsonField): RecordedMasks {
  const mask = (name: string): bigint => field.get(`shadow_${name}_mask`).u64();
  return {
    hostWritable: mask("host_writable"),
    mmuWritable: mask("mmu_writable"),
    nx: mask("nx"),
    x: mask("x"),
    user: mask("user"),
    accessed: mask("accessed"),
    dirty: mask("dirty"),
    mmioValue: field.get("shadow_mmio_value").u64(),
    mmioMask: mask("mmio"),
    mmioAccess: mask("mmio_access"),
    present: mask("present"),
    memtype: mask("memtype"),
    meValue: field.get("shadow_me_value").u64(),
    me: mask("me"),
    accTrack: mask("acc_track"),
    nonpresentOrRsvd: mask("nonpresent_or_rsvd"),
    nonpresentOrRsvdLowerGfn: mask("nonpresent_or_rsvd_lower_gfn"),
    maxHugePageLevel: field.get("max_huge_page_level").intFrom(1, 5),
    maxTdpLevel: field.get("max_tdp_level").intFrom(0, 5),
    tdpRootLevel: field.get("tdp_root_level").intFrom(0, 5),
    tdpEnabled: field.get("tdp_enabled").flag(),
    physBits: field.get("shadow_phys_bits").intFrom(32, 52),
    mmioCaching: field.get("enable_mmio_caching").flag(),
  };
}

/** Release of the recorded kernel, as uname gives it; recordings of 6.1 need not say it. */
function readKernel(field: JsonField): Kernel {
  const release = field.get("kernel").maybe((item) => item.text());
  if (release === undefined) return "6.1";
  const kernel = KERNELS.find(
    (known) => release === known || (/^[.-]/.test(release.slice(known.length)) && release.startsWith(known)),
  );
  return kernel ?? field.get("kernel").fail(`a release of Linux ${KERNELS.join(" or ")}`);
}

/** What an unused SPTE holds. */
function readEmpty(field: JsonField, kernel: Kernel): bigint {
  const expected = hasRule(kernel, "empty-bit-63") ? EMPTY_BIT_63 : 0n;
  const empty = field.get("empty_spte").maybe((item) => item.u64()) ?? expected;
  if (empty !== expected) field.get("empty_spte").fail(`0x${expected.toString(16)}, as Linux ${kernel} has it`);
  return empty;
}

export function readConfig(field: JsonField): RecordingConfig {
  const optionalFlag = (name: string): boolean => field.get(name).maybe((item) => item.flag()) ?? false;
  const npt = field.get("npt").flag();
  const kernel = readKernel(field);
  return {
    kernel,
    emptySpte: readEmpty(field, kernel),
    scenario: field.get("scenario").text(),
    cfg: field.get("cfg").text(),
    npt,
    ept: optionalFlag("ept"),
    eptAccessedDirty: optionalFlag("eptad"),
    pml: optionalFlag("pml"),
    tdpMmu: field.get("tdp_mmu").flag(),
    nested: field.get("nested").flag(),
    hostLa57: field.get("host_la57").flag(),
    hostMaxPhysAddr: field.get("host_maxphyaddr").intFrom(32, 52),
    guestMaxPhysAddr: field.get("guest_maxphyaddr").intFrom(32, 52),
    guestMode: field.get("guest_mode").oneOf("lm4", "lm5", "pae", "32", "32pse", "nopg"),
    rootGpa: field.get("root_gpa").u64(),
    pageOffset: field.get("page_offset").u64(),
    masks: readMasks(field.get("masks")),
    init: readRegisters(field.get("init")),
    manualDirtyLog: field.get("manual_dirty_log").intFrom(0, 3),
    backing: field.get("backing").map((item) => {
      const triple = item.array();
      if (triple.length !== 3) item.fail("[hva, size, page size]");
      return { hva: triple[0]!.u64(), size: triple[1]!.u64(), pageSize: triple[2]!.u64() };
    }),
    pdpteAccessedAllowed: optionalFlag("kvm_pdpte_bit5_patch"),
    // Only recordings of Intel hosts say whether EPT is used.
    intel: field.get("ept").present,
  };
}
