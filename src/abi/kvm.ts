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
