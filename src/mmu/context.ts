/** A paging context of a vCPU (KVM's struct kvm_mmu): its MMU record and what the roles imply for walks. */

import { CODES } from "../abi/index.js";
import { SHADOW_CODES } from "../abi/shadow.js";
import type { CoreExports } from "../core/exports.js";
import type { LinearMemory } from "../core/linear-memory.js";
import { spaceRecord } from "../core/space-config.js";
import { EXT_CR4_PKE, EXT_CR4_SMEP } from "../role/cpu-role.js";
import {
  type CpuRole,
  joinCpuRole,
  ROLE_4_BYTE_GPTE,
  ROLE_AD_DISABLED,
  ROLE_CR0_WP,
  ROLE_EFER_NX,
  roleLevel,
} from "../role/index.js";
import type { Allocations } from "./allocations.js";
import type { PagingRegisters } from "./control-registers.js";
import { protectionKeyMask } from "./protection-keys.js";
import { INVALID_PAGE, mmuRecord } from "./records.js";
import { bits, reservedBits } from "./reserved-bits.js";

/** What the vCPU's CPUID and the host say about reserved bits. */
export interface FormatLimits {
  readonly guestPhysicalBits: number;
  readonly guestPage1g: boolean;
  readonly guestAmd: boolean;
  readonly hostPhysicalBits: number;
  readonly encryptionMask: bigint;
  readonly encryptionValue: bigint;
}

const NONE: readonly bigint[] = Array.from({ length: 10 }, () => 0n);

export class PagingContext {
  readonly pointer: number;
  /** The SPACE record of its guest walks. */
  readonly space: number;
  #cpu: CpuRole = { base: 0, ext: 0 };
  #root = 0;
  readonly #guestReserved: bigint[] = [...NONE];
  #keyMask = 0;

  constructor(
    readonly exports: CoreExports,
    readonly linear: LinearMemory,
    memory: Allocations,
    readonly name: "root_mmu" | "guest_mmu" | "nested_mmu",
    work: number,
  ) {
    this.pointer = memory.take(mmuRecord.size);
    this.space = memory.take(spaceRecord.size);
    for (let i = 0; i < 3; i++) mmuRecord.set64(linear, this.pointer, "PREVIOUS_PGD", INVALID_PAGE, i);
    mmuRecord.set32(linear, this.pointer, "SPACE", this.space);
    spaceRecord.set32(linear, this.space, "WORK", work);
  }

  /** The guest memory that walks go through: a MEMORY record. */
  set memory(pointer: number) {
    spaceRecord.set32(this.linear, this.space, "MEMORY", pointer);
  }

  get cpuRole(): CpuRole {
    return this.#cpu;
  }

  /** In this project's layout. */
  get rootRole(): number {
    return this.#root;
  }

  get guestLevel(): number {
    return roleLevel(this.#cpu.base);
  }

  get pgd(): bigint {
    return spaceRecord.get64(this.linear, this.space, "CR3");
  }

  set pgd(value: bigint) {
    this.exports.spaceRoot(this.space, Number(value >> 32n), Number(value & 0xffff_ffffn));
  }

  get pdptes(): bigint[] {
    return [0, 1, 2, 3].map((i) => spaceRecord.get64(this.linear, this.space, "PDPTES", i));
  }

  set pdptes(values: readonly bigint[]) {
    values.forEach((value, i) => {
      spaceRecord.set64(this.linear, this.space, "PDPTES", value, i);
    });
  }

  /** Linear address of the latched PDPTEs. */
  get pdptesPointer(): number {
    return this.space + spaceRecord.offset("PDPTES");
  }

  setPkru(pkru: number): void {
    spaceRecord.set32(this.linear, this.space, "PKRU", pkru);
    if (this.guestLevel !== 0) this.exports.configure(this.space);
  }

  /**
   * Sets the roles; with equal roles nothing changes. What a paging mode implies for walks is kept while paging is
   * off, as in the kernel: nothing looks at it.
   */
  setRoles(cpu: CpuRole, root: number, limits: FormatLimits, registers: PagingRegisters): void {
    if (cpu.base === this.#cpu.base && cpu.ext === this.#cpu.ext && root === this.#root) return;
    this.#cpu = cpu;
    this.#root = root;
    const { linear, pointer } = this;
    const level = roleLevel(cpu.base);
    const wp = (cpu.base & ROLE_CR0_WP) !== 0;
    mmuRecord.set32(linear, pointer, "CPU_ROLE", cpu.base);
    mmuRecord.set32(linear, pointer, "CPU_EXT", cpu.ext);
    mmuRecord.set32(linear, pointer, "ROOT_ROLE", root);
    mmuRecord.set32(linear, pointer, "GUEST_LEVEL", level);
    mmuRecord.set32(linear, pointer, "HAVE_AD", (cpu.base & ROLE_AD_DISABLED) === 0 ? 1 : 0);
    const entries = cpu.base & ROLE_4_BYTE_GPTE ? SHADOW_CODES.FORMAT_32 : SHADOW_CODES.FORMAT_64;
    mmuRecord.set32(linear, pointer, "FORMAT", level === 0 ? SHADOW_CODES.FORMAT_NONE : entries);
    const smep = (cpu.ext & EXT_CR4_SMEP) !== 0 ? SHADOW_CODES.MMU_SMEP : 0;
    mmuRecord.set32(linear, pointer, "FLAGS", (wp ? SHADOW_CODES.MMU_WP : 0) | smep);
    if (level !== 0) {
      this.#configure(limits, registers);
      this.#keepReserved(level);
      this.#keyMask = protectionKeyMask({ wp, pke: (cpu.ext & EXT_CR4_PKE) !== 0 });
    }
    this.#setMasks("SHADOW_RESERVED", this.#shadowMasks(root, limits));
  }

  #configure(limits: FormatLimits, registers: PagingRegisters): void {
    const { linear, space } = this;
    const features =
      CODES.FEATURE_KVM |
      CODES.FEATURE_PSE36 |
      CODES.FEATURE_PAGE_2M |
      (limits.guestPage1g ? CODES.FEATURE_PAGE_1G : 0) |
      (limits.guestAmd ? CODES.FEATURE_AMD_BIT8 : 0);
    spaceRecord.set32(linear, space, "KIND", CODES.KIND_GUEST);
    spaceRecord.set32(linear, space, "FEATURES", features);
    spaceRecord.set32(linear, space, "MAXPHYADDR", limits.guestPhysicalBits);
    spaceRecord.set32(linear, space, "CR0", registers.cr0);
    spaceRecord.set32(linear, space, "CR4", registers.cr4);
    spaceRecord.set32(linear, space, "EFER", registers.efer);
    spaceRecord.set64(linear, space, "CR3", registers.cr3);
    this.exports.configure(space);
  }

  /** The kernel keeps masks of levels that the new mode does not have; so does this copy, which only `state` shows. */
  #keepReserved(level: number): void {
    for (let at = 0; at < level; at++) {
      for (const bit7 of [0, 5]) {
        // A PAE PDPTE has no bit 7.
        if (level === 3 && at === 2 && bit7 === 5) continue;
        this.#guestReserved[bit7 + at] = spaceRecord.get64(this.linear, this.space, "RESERVED", bit7 + at);
      }
    }
  }

  /** Reserved bits of SPTEs: those of the host's own format, with bit 8 of upper entries. */
  #shadowMasks(root: number, limits: FormatLimits): bigint[] {
    const level = roleLevel(root);
    const masks = reservedBits(
      {
        level,
        physicalBits: bits(limits.hostPhysicalBits, 63),
        nx: (root & ROLE_EFER_NX) !== 0,
        page1g: limits.guestPage1g,
        pse: false,
        amd: true,
      },
      this.#masks("SHADOW_RESERVED"),
    );
    if (limits.encryptionMask === 0n) return masks;
    return masks.map((mask, i) => (i % 5 < level ? (mask | limits.encryptionMask) & ~limits.encryptionValue : mask));
  }

  #masks(name: string): readonly bigint[] {
    return NONE.map((_, i) => mmuRecord.get64(this.linear, this.pointer, name, i));
  }

  #setMasks(name: string, masks: readonly bigint[]): void {
    masks.forEach((mask, i) => {
      mmuRecord.set64(this.linear, this.pointer, name, mask, i);
    });
  }

  /** What can be compared with a kernel's state. */
  state() {
    const { linear, pointer, space } = this;
    const view = linear.view();
    const permissions = space + spaceRecord.offset("PERMISSIONS");
    return {
      rootPgd: mmuRecord.get64(linear, pointer, "ROOT_PGD"),
      root: mmuRecord.get32(linear, pointer, "ROOT"),
      previous: [0, 1, 2].map((i) => ({
        page: mmuRecord.get32(linear, pointer, "PREVIOUS", i),
        pgd: mmuRecord.get64(linear, pointer, "PREVIOUS_PGD", i),
      })),
      cpuRole: joinCpuRole(this.#cpu),
      rootRole: this.#root,
      // Bits 7:0 are the combinations of W, U and X; the rest is EPT's.
      permissions: Array.from({ length: 16 }, (_, i) => view.getUint16(permissions + 2 * i, true) & 0xff),
      pkruMask: this.#keyMask,
      guestReserved: [...this.#guestReserved],
      shadowReserved: this.#masks("SHADOW_RESERVED"),
      pdptes: this.pdptes,
    };
  }
}
