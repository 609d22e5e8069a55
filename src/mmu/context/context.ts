/** A paging context of a vCPU (KVM's struct kvm_mmu): its MMU record and what the roles imply for walks. */

import { CODES } from "../../abi/index.js";
import { SHADOW_CODES } from "../../abi/shadow.js";
import type { ContextCore } from "../../core/mmu/context-core.js";
import type { ShadowPages } from "../../core/mmu/shadow-pages.js";
import type { MemoryRecord } from "../../core/records/walk.js";
import type { PagingRegisters } from "../../registers/control-registers.js";
import { EXT_CR4_PKE, EXT_CR4_SMEP } from "../../role/cpu-role.js";
import {
  type CpuRole,
  joinCpuRole,
  ROLE_4_BYTE_GPTE,
  ROLE_AD_DISABLED,
  ROLE_CR0_WP,
  ROLE_EFER_NX,
  ROLE_INVALID,
  roleLevel,
} from "../../role/index.js";
import { bitRange } from "../../spte/masks.js";
import { eptBadTypeAndRights, eptReservedBits, reservedBits } from "../../spte/reserved.js";
import type { FormatLimits } from "../config/formats.js";
import { protectionKeyMask } from "../config/protection-keys.js";
import { RootCache, type RootUsers } from "./root-cache.js";

/**
 * In which format a context's SPTEs are, and for whom: `shadow` tables in the legacy format that stand for a guest's own
 * (an L1 hypervisor's NPT too), the host's own direct `npt` and `ept`; `none` for a context that only walks.
 */
export type SpteFormat = "shadow" | "npt" | "ept" | "none";

/** L1's nested EPT. */
export interface NestedEptFormat {
  readonly eptp: bigint;
  readonly executeOnly: boolean;
  /** Largest level of a leaf that L1 sees, 1 to 3. */
  readonly hugePageLevel: number;
}

const NONE: readonly bigint[] = Array.from({ length: 10 }, () => 0n);

/** One of a vCPU's MMU contexts: its role, its root and the roots before it. */
export class PagingContext {
  #cpu: CpuRole = { base: 0, ext: 0 };
  #root = 0;
  #stale = false;
  readonly #guestReserved: bigint[] = [...NONE];
  #keyMask = 0;
  readonly roots: RootCache;

  constructor(
    readonly core: ContextCore,
    readonly name: "root_mmu" | "guest_mmu" | "nested_mmu",
    pages: ShadowPages,
    rootUsers: RootUsers,
  ) {
    this.roots = new RootCache(core, pages, rootUsers);
  }

  /** The guest memory that walks go through. */
  set memory(memory: MemoryRecord) {
    this.core.space.memory = memory.at;
  }

  /** Walks read PDPTEs from memory, not from registers: those of L1's PAE NPT (APM, "Nested Paging"). */
  get livePdptes(): boolean {
    return this.name === "guest_mmu";
  }

  /** The processor's state that the context was made for. */
  get cpuRole(): CpuRole {
    return this.#cpu;
  }

  /** In this project's layout. */
  get rootRole(): number {
    return this.#root;
  }

  /** Levels of the guest's tables. */
  get guestLevel(): number {
    return roleLevel(this.#cpu.base);
  }

  /** The guest's root, as CR3 or nCR3 or EPTP has it. */
  get pgd(): bigint {
    return this.core.space.cr3;
  }

  /** Of the next role that is set. */
  set pgd(value: bigint) {
    this.core.setRoot(value);
  }

  /** The four PDPTEs of PAE paging. */
  get pdptes(): bigint[] {
    return this.core.pdptes;
  }

  /** As MOV to CR3 loads them. */
  set pdptes(values: readonly bigint[]) {
    this.core.pdptes = values;
  }

  /** Sets PKRU for the walks of the context. */
  setPkru(pkru: number): void {
    this.core.space.pkru = pkru;
    if (this.guestLevel !== 0) this.core.configure();
  }

  /** The second stage of its walks: L1's tables, which this L2 context's guest-physical addresses go through. */
  set second(context: PagingContext) {
    this.core.second = context.core;
  }

  /**
   * Sets the roles of a context whose guest tables are in a legacy format; with equal roles nothing changes. What a
   * paging mode implies for walks is kept while paging is off, as in the kernel: nothing looks at it.
   */
  setRoles(cpu: CpuRole, root: number, limits: FormatLimits, registers: PagingRegisters, format: SpteFormat): void {
    if (!this.#adopt(cpu, root)) return;
    const level = roleLevel(cpu.base);
    const entries = cpu.base & ROLE_4_BYTE_GPTE ? SHADOW_CODES.FORMAT_32 : SHADOW_CODES.FORMAT_64;
    this.core.mmu.format = level === 0 ? SHADOW_CODES.FORMAT_NONE : entries;
    if (level !== 0) this.#legacyWalks(limits, registers);
    this.#setShadowMasks(root, limits, format);
  }

  /** Sets the roles of the context that shadows L1's EPT. */
  setEptRoles(cpu: CpuRole, root: number, limits: FormatLimits, ept: NestedEptFormat): void {
    if (!this.#adopt(cpu, root)) return;
    const { mmu, space } = this.core;
    mmu.format = SHADOW_CODES.FORMAT_EPT;
    const features =
      CODES.FEATURE_KVM |
      (ept.hugePageLevel >= 2 ? CODES.FEATURE_PAGE_2M : 0) |
      (ept.hugePageLevel >= 3 ? CODES.FEATURE_PAGE_1G : 0) |
      (ept.executeOnly ? CODES.FEATURE_EXECUTE_ONLY : 0);
    space.kind = CODES.KIND_EPT;
    space.features = features;
    space.maxphyaddr = limits.guestPhysicalBits;
    space.cr3 = ept.eptp;
    this.core.configure();
    const { executeOnly, hugePageLevel } = ept;
    const guest = eptReservedBits({ physicalBits: bitRange(limits.guestPhysicalBits, 63), executeOnly, hugePageLevel });
    guest.forEach((mask, i) => {
      this.#guestReserved[i] = mask;
    });
    this.#keyMask = 0;
    this.#setEptMasks(limits, executeOnly);
  }

  /** Its root role is invalid until it is used for the first time. */
  markUnused(): void {
    this.#root = ROLE_INVALID;
    this.core.mmu.rootRole = ROLE_INVALID;
  }

  /** What the formats are derived from has changed: the next roles are taken even if they are the same. */
  forgetRoles(): void {
    this.#stale = true;
  }

  /** Takes new roles; false where they are what the context has. */
  #adopt(cpu: CpuRole, root: number): boolean {
    if (!this.#stale && cpu.base === this.#cpu.base && cpu.ext === this.#cpu.ext && root === this.#root) return false;
    this.#stale = false;
    this.#cpu = cpu;
    this.#root = root;
    const { mmu } = this.core;
    mmu.rootRole = root;
    mmu.guestLevel = roleLevel(cpu.base);
    mmu.haveAd = (cpu.base & ROLE_AD_DISABLED) === 0 ? 1 : 0;
    const wp = (cpu.base & ROLE_CR0_WP) !== 0 ? SHADOW_CODES.MMU_WP : 0;
    const smep = (cpu.ext & EXT_CR4_SMEP) !== 0 ? SHADOW_CODES.MMU_SMEP : 0;
    mmu.flags = wp | smep;
    return true;
  }

  /** Its guest tables are L1's EPT. */
  get isEpt(): boolean {
    return this.core.mmu.format === SHADOW_CODES.FORMAT_EPT;
  }

  /** Whether supervisor writes heed read-only pages. */
  get writeProtect(): boolean {
    return (this.#cpu.base & ROLE_CR0_WP) !== 0;
  }

  /**
   * CR0.WP changed without an exit: only what walks ask of it follows, never the root
   * (__kvm_mmu_refresh_passthrough_bits).
   */
  refreshWriteProtect(limits: FormatLimits, registers: PagingRegisters): void {
    const base = (this.#cpu.base ^ ROLE_CR0_WP) >>> 0;
    this.#adopt({ ...this.#cpu, base }, this.#root);
    if (roleLevel(base) !== 0) this.#legacyWalks(limits, registers);
  }

  /** Bits that a present PDPTE must not have; for walks that load PDPTEs, or read them live, by themselves. */
  set pdpteReserved(mask: bigint) {
    this.core.mmu.pdpteReserved = mask;
  }

  #legacyWalks(limits: FormatLimits, registers: PagingRegisters): void {
    this.#configure(limits, registers);
    this.#keepReserved(this.guestLevel);
    // Latched PDPTEs were checked when they were loaded, live ones are in each walk (APM, "Nested Paging").
    const live = this.livePdptes ? this.core.mmu.pdpteReserved & ~limits.aliasMask : 0n;
    if (this.guestLevel === 3) for (const at of [2, 7]) this.core.space.setReserved(at, live);
    this.#keyMask = protectionKeyMask({ wp: this.writeProtect, pke: (this.#cpu.ext & EXT_CR4_PKE) !== 0 });
  }

  #configure(limits: FormatLimits, registers: PagingRegisters): void {
    const { space } = this.core;
    const features =
      CODES.FEATURE_KVM |
      CODES.FEATURE_PSE36 |
      CODES.FEATURE_PAGE_2M |
      (limits.guestPage1g ? CODES.FEATURE_PAGE_1G : 0) |
      (limits.guestAmd ? CODES.FEATURE_AMD_BIT8 : 0) |
      (this.livePdptes ? CODES.FEATURE_LIVE_PDPTES : 0);
    space.kind = CODES.KIND_GUEST;
    space.features = features;
    space.maxphyaddr = limits.guestPhysicalBits;
    space.cr0 = registers.cr0;
    space.cr4 = registers.cr4;
    space.efer = registers.efer;
    space.cr3 = registers.cr3;
    // Alias bits are not reserved and are masked off where an entry gives a gfn; L2's own addresses have none.
    space.encryption = this.name === "nested_mmu" ? 0n : limits.aliasMask;
    this.core.configure();
  }

  /** The kernel keeps masks of levels that the new mode does not have; so does this copy, which only `state` shows. */
  #keepReserved(level: number): void {
    for (let at = 0; at < level; at++) {
      for (const bit7 of [0, 5]) {
        // A PAE PDPTE has no bit 7.
        if (level === 3 && at === 2 && bit7 === 5) continue;
        this.#guestReserved[bit7 + at] = this.core.space.reserved(bit7 + at);
      }
    }
  }

  #setShadowMasks(root: number, limits: FormatLimits, format: SpteFormat): void {
    if (format === "ept") this.#setEptMasks(limits, limits.executeOnlyAliases !== 0n);
    else if (format !== "none") this.#setShadowReserved(this.#legacyMasks(root, limits, format), limits);
  }

  /** Reserved bits of SPTEs in EPT format. Direct EPT is checked as if X alone were bad: the kernel never makes it. */
  #setEptMasks(limits: FormatLimits, executeOnly: boolean): void {
    const physicalBits = bitRange(limits.hostPhysicalBits, 63);
    const hugePageLevel = limits.maxHugeLevel;
    this.#setShadowReserved(eptReservedBits({ physicalBits, executeOnly, hugePageLevel }), limits);
    this.core.mmu.shadowBadMtXwr = eptBadTypeAndRights(executeOnly);
  }

  /** Reserved bits of SPTEs in the legacy format: those of the host's own tables, with bit 8 of upper entries. */
  #legacyMasks(root: number, limits: FormatLimits, format: "shadow" | "npt"): bigint[] {
    const level = roleLevel(root);
    const masks = reservedBits(
      {
        level,
        physicalBits: bitRange(limits.hostPhysicalBits, 63),
        // The host's own EFER.NXE is set: SPTEs may use the bit wherever anything asks for it.
        nx: format === "npt" || limits.nxHugePages || (root & ROLE_EFER_NX) !== 0,
        page1g: format === "npt" ? limits.hostPage1g : limits.guestPage1g,
        pse: false,
        amd: true,
      },
      this.#shadowReserved(),
    );
    if (limits.encryptionMask === 0n) return masks;
    // Shadow tables may have the encryption value only, direct ones every bit of the mask.
    const reserved = format === "shadow" ? limits.encryptionMask : 0n;
    const allowed = format === "shadow" ? limits.encryptionValue : limits.encryptionMask;
    return masks.map((mask, i) => (i % 5 < level ? (mask | reserved) & ~allowed : mask));
  }

  #setShadowReserved(masks: readonly bigint[], { aliasMask }: FormatLimits): void {
    masks.forEach((mask, i) => {
      this.core.mmu.setShadowReserved(i, mask & ~aliasMask);
    });
  }

  #shadowReserved(): readonly bigint[] {
    return NONE.map((_, i) => this.core.mmu.shadowReserved(i));
  }

  /** @internal What a saved state is made of, besides its records. */
  get kept() {
    const { hits, misses } = this.roots;
    return {
      ...{ base: this.#cpu.base, ext: this.#cpu.ext, root: this.#root, stale: this.#stale, keyMask: this.#keyMask },
      ...{ guestReserved: [...this.#guestReserved], hits, misses },
    };
  }

  /** @internal */
  adopt(kept: PagingContext["kept"]): void {
    this.#cpu = { base: kept.base, ext: kept.ext };
    this.#root = kept.root;
    this.#stale = kept.stale;
    this.#keyMask = kept.keyMask;
    this.#guestReserved.splice(0, this.#guestReserved.length, ...kept.guestReserved);
    this.roots.hits = kept.hits;
    this.roots.misses = kept.misses;
  }

  /** What can be compared with a kernel's state. */
  state() {
    const { mmu, space } = this.core;
    return {
      rootPgd: mmu.rootPgd,
      root: mmu.root,
      previous: [0, 1, 2].map((i) => this.roots.previous(i)),
      cpuRole: joinCpuRole(this.#cpu),
      rootRole: this.#root,
      // Bits 7:0 are the combinations of W, U and X; the rest is EPT's.
      permissions: Array.from({ length: 16 }, (_, i) => space.permissions(i) & 0xff),
      pkruMask: this.#keyMask,
      guestReserved: [...this.#guestReserved],
      shadowReserved: this.#shadowReserved(),
      // L1's NPT has no PDPTE registers.
      pdptes: this.livePdptes ? [0n, 0n, 0n, 0n] : this.pdptes,
    };
  }
}
