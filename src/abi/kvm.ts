/** Flags of KVM's own interface (Linux 6.1 include/uapi/linux/kvm.h). */
import type { BitLayout } from "./bits.js";

const UAPI = "Linux 6.1 include/uapi/linux/kvm.h";

export const MEM_FLAGS: BitLayout = {
  prefix: "KVM_MEM",
  title: "Flags of a memory region",
  source: UAPI,
  fields: [
    { name: "LOG_DIRTY_PAGES", low: 0, meaning: "writes are logged" },
    { name: "READONLY", low: 1, meaning: "writes are emulated" },
  ],
};

export const MANUAL_DIRTY_LOG: BitLayout = {
  prefix: "KVM_DIRTY_LOG",
  title: "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2",
  source: UAPI,
  fields: [
    { name: "MANUAL_PROTECT", low: 0, meaning: "logs are cleared by the user" },
    { name: "INITIALLY_SET", low: 1, meaning: "a log begins with every page in it" },
  ],
};

export const QUIRK: BitLayout = {
  prefix: "QUIRK",
  title: "KVM_CAP_DISABLE_QUIRKS2",
  source: "Linux 6.12 arch/x86/include/uapi/asm/kvm.h (KVM_X86_QUIRK_*)",
  fields: [{ name: "SLOT_ZAP_ALL", low: 7, meaning: "deleting or moving a slot zaps every shadow page" }],
};

/** Which roots kvm_mmu_free_roots and kvm_mmu_invalidate_addr are about; previous roots follow. */
export const MMU_ROOT: BitLayout = {
  prefix: "MMU_ROOT",
  title: "Roots of a context",
  source: "Linux 6.1 arch/x86/include/asm/kvm_host.h (KVM_MMU_ROOT_*)",
  fields: [
    { name: "CURRENT", low: 0, meaning: "the current root" },
    { name: "PREVIOUS", low: 1, width: 3, meaning: "the previous ones, the newest first" },
  ],
};
