/** Every kind of VM with two-dimensional paging that random guests run in. One line adds a kind. */
import type { VirtualMachineConfig } from "../../../src/mmu/index.js";
import { eptMasks, legacyMasks } from "../../../src/spte/index.js";
import type { TableFormat } from "./judge.js";

export interface MachineKind {
  readonly name: string;
  readonly format: TableFormat;
  /** Levels of the direct tables. */
  readonly level: 3 | 4 | 5;
  readonly accessedDirty: boolean;
  readonly pageModificationLog: boolean;
  readonly nxHugePages: boolean;
  /** Stolen bits of guest-physical addresses: accesses come with random ones of them set. 0n: none. */
  readonly aliasMask: bigint;
  /** Those of them through which only code is fetched. */
  readonly executeOnlyAliases: bigint;
  readonly config: Partial<VirtualMachineConfig>;
}

interface Features {
  readonly level?: 3 | 4 | 5;
  readonly accessedDirty?: boolean;
  readonly pml?: boolean;
  readonly nx?: boolean;
  readonly physBits?: number;
  readonly encryption?: { readonly mask: bigint; readonly value: bigint };
  readonly aliases?: { readonly mask: bigint; readonly executeOnly?: bigint };
}

function kind(name: string, paging: "npt" | "ept", features: Features = {}): MachineKind {
  const { level = 4, accessedDirty = true, pml = false, nx = false, encryption, aliases } = features;
  const physBits = features.physBits ?? 46;
  const options = { physBits, ...(encryption === undefined ? {} : { encryption }) };
  return {
    name,
    format: { kind: paging, physBits, ...(encryption === undefined ? {} : { encryption }) },
    level,
    accessedDirty,
    pageModificationLog: pml,
    nxHugePages: nx,
    aliasMask: aliases?.mask ?? 0n,
    executeOnlyAliases: aliases?.executeOnly ?? 0n,
    config: {
      paging,
      masks: paging === "npt" ? legacyMasks(options) : eptMasks({ ...options, accessedDirty }),
      hostPhysicalBits: physBits,
      // NPT has the host's own levels; EPT those that the guest's addresses need.
      tdpLevels: paging === "npt" ? { forced: level, max: level } : { forced: 0, max: level },
      virtualization: paging === "npt" ? "svm" : "vmx",
      pageModificationLog: pml,
      nxHugePages: nx,
      ...(aliases === undefined ? {} : { aliases }),
    },
  };
}

/** Above what a 5-level host of 50 address bits maps. */
const HIGH_C_BIT = { mask: 1n << 50n, value: 1n << 50n };
const C_BIT = { mask: 1n << 47n, value: 1n << 47n };
/** Key identifiers of multi-key encryption: KVM leaves them 0. */
const KEY_IDS = { mask: 3n << 44n, value: 0n };

export const KINDS: readonly MachineKind[] = [
  kind("NPT", "npt"),
  kind("NPT of a 5-level host", "npt", { level: 5, physBits: 50 }),
  kind("NPT of a 32-bit host", "npt", { level: 3, physBits: 40 }),
  kind("NPT with NX-huge-page mitigation", "npt", { nx: true }),
  kind("NPT with memory encryption", "npt", { encryption: C_BIT }),
  kind("NPT of a 5-level host with memory encryption", "npt", { level: 5, physBits: 50, encryption: HIGH_C_BIT }),
  kind("EPT", "ept"),
  kind("EPT of 5 levels", "ept", { level: 5, physBits: 50 }),
  kind("EPT without A/D", "ept", { accessedDirty: false }),
  kind("EPT of 5 levels without A/D, NX-huge-page mitigation", "ept", {
    level: 5,
    physBits: 50,
    accessedDirty: false,
    nx: true,
  }),
  kind("EPT with PML", "ept", { pml: true }),
  kind("EPT with PML, NX-huge-page mitigation", "ept", { pml: true, nx: true }),
  kind("EPT with key identifiers", "ept", { physBits: 44, encryption: KEY_IDS }),
  kind("NPT with two alias bits", "npt", { aliases: { mask: (1n << 45n) | (1n << 47n) } }),
  kind("NPT with an alias bit and memory encryption", "npt", { encryption: C_BIT, aliases: { mask: 1n << 44n } }),
  kind("EPT with an execute-only alias bit", "ept", { aliases: { mask: 1n << 47n, executeOnly: 1n << 47n } }),
  kind("EPT of 5 levels without A/D with an alias bit above MAXPHYADDR", "ept", {
    level: 5,
    physBits: 50,
    accessedDirty: false,
    aliases: { mask: 1n << 51n },
  }),
  kind("EPT with PML, NX-huge-page mitigation and two alias bits", "ept", {
    pml: true,
    nx: true,
    aliases: { mask: 3n << 46n, executeOnly: 1n << 46n },
  }),
];
