/** The SPTE side of check-recordings.ts: decoding, invariants, reconstruction, reserved bits. */
import { SPTE_AD } from "../../src/abi/spte.js";
import { ACC, makeLeaf, makeMmio, makeNonLeaf, markForAccessTracking } from "../../src/reference/spte.js";
import { roleIsAdDisabled, roleLevel } from "../../src/role/index.js";
import {
  brokenInvariants,
  type DecodedSpte,
  decodeSpte,
  eptReserved,
  legacyReserved,
  type ReservedBits,
  type SpteFormat,
  type SpteMasks,
} from "../../src/spte/index.js";
import type { Mmu, Scenario, Snapshot, Tally } from "./scenario.js";

/** A recording's masks, as its kernel held them. */
export function recordedMasks(scenario: Scenario): SpteMasks {
  const of = (name: string) => BigInt(scenario.config.masks[name] ?? 0);
  return {
    user: of("shadow_user_mask"),
    accessed: of("shadow_accessed_mask"),
    dirty: of("shadow_dirty_mask"),
    nx: of("shadow_nx_mask"),
    x: of("shadow_x_mask"),
    present: of("shadow_present_mask"),
    me: of("shadow_me_mask"),
    meValue: of("shadow_me_value"),
    memtype: of("shadow_memtype_mask"),
    accTrack: of("shadow_acc_track_mask"),
    hostWritable: of("shadow_host_writable_mask"),
    mmuWritable: of("shadow_mmu_writable_mask"),
    mmio: of("shadow_mmio_mask"),
    mmioValue: of("shadow_mmio_value"),
    mmioAccess: of("shadow_mmio_access_mask"),
    nonpresentOrRsvd: of("shadow_nonpresent_or_rsvd_mask"),
    lowerGfn: of("shadow_nonpresent_or_rsvd_lower_gfn_mask"),
    physBits: Number(scenario.config.masks.shadow_phys_bits),
  };
}

export interface SpteContext {
  readonly format: SpteFormat;
  readonly masks: SpteMasks;
  readonly tdp: boolean;
  readonly maxPageLevel: number;
}

/** Compares every SPTE and the reserved bits of a snapshot. */
export function checkSptes(snap: Snapshot, context: SpteContext, tally: Tally, where: string): void {
  const { masks, format } = context;
  const reserved = snap.root_mmu && checkReserved(snap.root_mmu, context, tally, where);
  for (const page of snap.sps ?? []) {
    const role = Number(page.role);
    const level = roleLevel(role);
    for (const [index, text] of Object.entries(page.e)) {
      const word = BigInt(text);
      const at = () => `${text} ${where} page ${page.role} entry ${index}`;
      const decoded = decodeSpte(word, { format, masks, level });
      tally.outcome(`SPTE decoded: ${decoded.kind}`, decoded.unknown === 0n && decoded.kind !== "not-present", at);
      const broken = brokenInvariants(word, { masks, level, ...(reserved && { reserved }) });
      tally.outcome("SPTE invariants", broken.length === 0, () => `${broken.join(", ")}: ${at()}`);
      const rebuilt = rebuild(decoded, level, roleIsAdDisabled(role), masks);
      if (rebuilt !== undefined) {
        tally.outcome(`SPTE rebuilt: ${decoded.kind}`, rebuilt === word, () => `0x${rebuilt.toString(16)} for ${at()}`);
      }
      // The kind must not need the level, but for small read-only leaves that equal no table's entry.
      const alone = decodeSpte(word, { format, masks });
      tally.outcome("SPTE kind without the level", alone.kind === decoded.kind, () => `${alone.kind}: ${at()}`);
    }
  }
  for (const text of Object.values(snap.root_mmu?.pae_root?.e ?? {})) {
    const { kind } = decodeSpte(BigInt(text), { format: "shadow", masks });
    tally.outcome("entries of pae_root", kind === "special-root", () => `${kind}: ${text} ${where}`);
  }
}

/** The entry as the reference constructs it from what the entry says. */
function rebuild(decoded: DecodedSpte, level: number, adDisabled: boolean, masks: SpteMasks): bigint | undefined {
  const { word, kind } = decoded;
  if (kind === "mmio") {
    const { gfn, access, generation } = decoded.mmio!;
    return makeMmio(gfn, access, generation, masks);
  }
  if (kind === "non-leaf") return makeNonLeaf(decoded.address!, adDisabled, masks);
  if (kind !== "leaf" && kind !== "access-tracked") return undefined;
  const adType = Number((word >> 52n) & 3n);
  const mmuWritable = (word & masks.mmuWritable) !== 0n;
  const rights = decoded.rights!;
  const executable = rights.execute ? ACC.Exec : 0;
  const user = (masks.present === 0n ? rights.read : rights.user) ? ACC.User : 0;
  let { spte } = makeLeaf({
    masks,
    level,
    pfn: decoded.address! >> 12n,
    access: executable | user | (mmuWritable ? ACC.Write : 0),
    adType,
    hostWritable: (word & masks.hostWritable) !== 0n,
    prefetch: false,
    nxHugePages: false,
    writeProtect: false,
    mmioPage: false,
    memtype: word & masks.memtype,
    old: 0n,
  });
  if (kind === "access-tracked") return markForAccessTracking(spte, masks);
  // Write protection for dirty logging leaves an entry MMU-writable; A and D are the hardware's as well.
  if (!rights.write) spte &= ~2n;
  if (adType !== SPTE_AD.Disabled) {
    const hardware = masks.accessed | masks.dirty;
    spte = (spte & ~hardware) | (word & hardware);
  }
  return spte;
}

/** Whether the guest's CPUID has 1 GiB pages, which only its own recorded reserved bits tell. */
function guestHas1GPages(mmu: Mmu): boolean {
  return (BigInt(mmu.grsvd?.[2] ?? 0) & 0x80n) === 0n;
}

function checkReserved(mmu: Mmu, context: SpteContext, tally: Tally, where: string): ReservedBits {
  const { masks, tdp } = context;
  const root = Number(mmu.root_role);
  const rootLevel = roleLevel(root);
  const reserved =
    context.format === "ept"
      ? eptReserved(masks, { executeOnly: false, maxPageLevel: context.maxPageLevel })
      : legacyReserved(masks, {
          rootLevel,
          nx: tdp || (root & 0x1000) !== 0,
          page1g: tdp || guestHas1GPages(mmu),
          encryptedOnly: !tdp,
        });
  for (let row = 0; row < 2; row++) {
    for (let level = 1; level <= rootLevel; level++) {
      // The kernel never writes the large-page row of a PDPTE: what is there is left from another mode.
      if (rootLevel === 3 && level === 3 && row === 1) continue;
      const recorded = mmu.szero?.[row * 5 + level - 1];
      if (recorded === undefined) continue;
      const computed = `0x${reserved.bits[row as 0 | 1][level - 1]!.toString(16)}`;
      tally.compare("reserved bits of the shadow format", recorded, computed, `${where} level ${level} bit 7 ${row}`);
    }
  }
  // With two-dimensional paging L2's tables follow L1's EPT capabilities instead.
  return context.format === "ept"
    ? eptReserved(masks, { executeOnly: true, maxPageLevel: context.maxPageLevel })
    : reserved;
}
