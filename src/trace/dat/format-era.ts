/** Which kernels have such formats of events: fields and texts that came and went. */
import { compareReleases, parseRelease } from "../../abi/release.js";

/** Bounds of the kernel, and the era of its roles. */
export interface FormatEra {
  readonly oldest: string | undefined;
  readonly newest: string | undefined;
  /** A release whose role words have the layout; undefined where the formats do not tell. */
  readonly roles: string | undefined;
  readonly because: readonly string[];
}

/** Formats that are looked at. */
export const TELLING: ReadonlySet<string> = new Set([
  "kvm_mmu_get_page",
  "kvm_page_fault",
  "kvm_exit",
  "kvm_entry",
  "kvm_mmu_spte_requested",
]);

interface Sign {
  readonly event: string;
  /** In the format, or not in it. */
  readonly has?: string;
  readonly lacks?: string;
  /** Oldest and newest tree in which that was read. */
  readonly kernels: readonly [first: string | undefined, last?: string];
  readonly roles?: string;
}

/** arch/x86/kvm/trace.h and mmutrace.h, 4.19 to 7.3. */
const SIGNS: readonly Sign[] = [
  { event: "kvm_mmu_get_page", has: "role.cr4_pae", kernels: [undefined, "5.0.1"], roles: "5.0" },
  { event: "kvm_mmu_get_page", has: "role.gpte_is_8_bytes", kernels: ["5.1", "5.16.10"], roles: "5.1" },
  { event: "kvm_mmu_get_page", has: "role.has_4_byte_gpte", kernels: ["5.17"], roles: "6.14" },
  { event: "kvm_mmu_get_page", lacks: "rwux", kernels: [undefined, "7.1.5"] },
  { event: "kvm_mmu_get_page", has: "rwux", kernels: ["7.2"], roles: "7.2" },
  { event: "kvm_exit", has: "intr_info", kernels: ["5.10"] },
  { event: "kvm_exit", lacks: "intr_info", kernels: [undefined, "5.9.1"] },
  { event: "kvm_page_fault", has: "guest_rip", kernels: ["6.1"] },
  { event: "kvm_page_fault", lacks: "guest_rip", kernels: [undefined, "6.0.1"] },
  { event: "kvm_exit", has: "requests", kernels: ["6.14"] },
  { event: "kvm_mmu_spte_requested", has: "access", kernels: ["7.2"] },
];

const isNewer = (one: string, other: string): boolean => compareReleases(parseRelease(one)!, parseRelease(other)!) > 0;

export function eraOfFormats(texts: ReadonlyMap<string, string>): FormatEra {
  const era: { -readonly [key in keyof FormatEra]: FormatEra[key] } = {
    oldest: undefined,
    newest: undefined,
    roles: undefined,
    because: [],
  };
  const because: string[] = [];
  for (const { event, has, lacks, kernels, roles } of SIGNS) {
    const text = texts.get(event);
    if (text === undefined || !(has === undefined ? !text.includes(lacks!) : text.includes(has))) continue;
    if (roles !== undefined) era.roles = roles;
    const [first, last] = kernels;
    const older = first !== undefined && (era.oldest === undefined || isNewer(first, era.oldest));
    const newer = last !== undefined && (era.newest === undefined || isNewer(era.newest, last));
    if (older) era.oldest = first;
    if (newer) era.newest = last;
    if (older || newer) because.push(`the format of ${event} ${has === undefined ? `lacks ${lacks}` : `has ${has}`}`);
  }
  return { ...era, because };
}
