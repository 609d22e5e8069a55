/** A paging context of a vCPU (KVM's struct kvm_mmu): its MMU record and what the roles imply for walks. */
import { SHADOW_CODES } from "../abi/shadow.js";
import type { LinearMemory } from "../core/linear-memory.js";
import {
  type CpuRole,
  joinCpuRole,
  ROLE_4_BYTE_GPTE,
  ROLE_AD_DISABLED,
  ROLE_CR0_WP,
  ROLE_EFER_NX,
  roleLevel,
} from "../role/index.js";
import { permissionTable, protectionKeyMask } from "./permissions.js";
import { INVALID_PAGE, mmuRecord } from "./records.js";
import { bits, reservedBits } from "./reserved-bits.js";

/** Bits of the extended role that walks depend on. */
const EXT = { pse: 1 << 2, pke: 1 << 3, smap: 1 << 4, smep: 1 << 5 } as const;

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
  #cpu: CpuRole = { base: 0, ext: 0 };
  #root = 0;

  constructor(
    readonly linear: LinearMemory,
    readonly name: "root_mmu" | "guest_mmu" | "nested_mmu",
  ) {
    this.pointer = linear.allocate(mmuRecord.size);
    for (let i = 0; i < 3; i++) mmuRecord.set64(linear, this.pointer, "PREVIOUS_PGD", INVALID_PAGE, i);
  }

  dispose(): void {
    this.linear.free(this.pointer, mmuRecord.size);
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
    return mmuRecord.get64(this.linear, this.pointer, "PGD");
  }

  set pgd(value: bigint) {
    mmuRecord.set64(this.linear, this.pointer, "PGD", value);
  }

  get pdptes(): bigint[] {
    return [0, 1, 2, 3].map((i) => mmuRecord.get64(this.linear, this.pointer, "PDPTES", i));
  }

  set pdptes(values: readonly bigint[]) {
    values.forEach((value, i) => {
      mmuRecord.set64(this.linear, this.pointer, "PDPTES", value, i);
    });
  }

  /** Linear address of the latched PDPTEs. */
  get pdptesPointer(): number {
    return this.pointer + mmuRecord.offset("PDPTES");
  }

  /**
   * Sets the roles; with equal roles nothing changes. Reserved bits and permissions of a mode are kept while paging is
   * off, as in the kernel: nothing looks at them.
   */
  setRoles(cpu: CpuRole, root: number, limits: FormatLimits, force = false): void {
    if (!force && cpu.base === this.#cpu.base && cpu.ext === this.#cpu.ext && root === this.#root) return;
    this.#cpu = cpu;
    this.#root = root;
    const { linear, pointer } = this;
    const level = roleLevel(cpu.base);
    const wp = (cpu.base & ROLE_CR0_WP) !== 0;
    const nx = (cpu.base & ROLE_EFER_NX) !== 0;
    const mode = {
      wp,
      nx,
      smep: (cpu.ext & EXT.smep) !== 0,
      smap: (cpu.ext & EXT.smap) !== 0,
      pke: (cpu.ext & EXT.pke) !== 0,
    };
    const pse = (cpu.ext & EXT.pse) !== 0;
    mmuRecord.set32(linear, pointer, "CPU_ROLE", cpu.base);
    mmuRecord.set32(linear, pointer, "CPU_EXT", cpu.ext);
    mmuRecord.set32(linear, pointer, "ROOT_ROLE", root);
    mmuRecord.set32(linear, pointer, "GUEST_LEVEL", level);
    mmuRecord.set32(linear, pointer, "HAVE_AD", (cpu.base & ROLE_AD_DISABLED) === 0 ? 1 : 0);
    mmuRecord.set32(
      linear,
      pointer,
      "FORMAT",
      level === 0
        ? SHADOW_CODES.FORMAT_NONE
        : cpu.base & ROLE_4_BYTE_GPTE
          ? SHADOW_CODES.FORMAT_32
          : SHADOW_CODES.FORMAT_64,
    );
    const flags =
      (wp ? SHADOW_CODES.MMU_WP : 0) |
      (nx ? SHADOW_CODES.MMU_NX : 0) |
      (mode.smep ? SHADOW_CODES.MMU_SMEP : 0) |
      (pse ? SHADOW_CODES.MMU_PSE : 0);
    mmuRecord.set32(linear, pointer, "FLAGS", flags);
    if (level !== 0) {
      const physicalBits = bits(limits.guestPhysicalBits, 63);
      const input = { level, physicalBits, nx, page1g: limits.guestPage1g, pse, amd: limits.guestAmd };
      this.#setMasks("GUEST_RESERVED", reservedBits(input, this.#masks("GUEST_RESERVED")));
      permissionTable(mode).forEach((denied, i) => {
        linear.view().setUint16(pointer + mmuRecord.offset("PERMISSIONS") + 2 * i, denied, true);
      });
      mmuRecord.set32(linear, pointer, "PKRU_MASK", protectionKeyMask(mode));
    }
    this.#setMasks("SHADOW_RESERVED", this.#shadowMasks(root, limits));
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
    const { linear, pointer } = this;
    const view = linear.view();
    return {
      rootPgd: mmuRecord.get64(linear, pointer, "ROOT_PGD"),
      root: mmuRecord.get32(linear, pointer, "ROOT"),
      previous: [0, 1, 2].map((i) => ({
        page: mmuRecord.get32(linear, pointer, "PREVIOUS", i),
        pgd: mmuRecord.get64(linear, pointer, "PREVIOUS_PGD", i),
      })),
      cpuRole: joinCpuRole(this.#cpu),
      rootRole: this.#root,
      permissions: Array.from({ length: 16 }, (_, i) =>
        view.getUint16(pointer + mmuRecord.offset("PERMISSIONS") + 2 * i, true),
      ),
      pkruMask: mmuRecord.get32(linear, pointer, "PKRU_MASK"),
      guestReserved: this.#masks("GUEST_RESERVED"),
      shadowReserved: this.#masks("SHADOW_RESERVED"),
      pdptes: this.pdptes,
    };
  }
}
