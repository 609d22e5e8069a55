/**
 * What the tables that the MMU built mean to a processor: the walks of the foundation, through host-physical memory.
 * The core's walker runs the guest (and sets accessed and dirty bits); the reference repeats what it finds.
 */
import { type AddressSpace, Access as Flag, type PagingEngine } from "../../../src/index.js";
import type { Vcpu, VirtualMachine } from "../../../src/mmu/index.js";
import { createReference } from "../../../src/reference/index.js";
import { roleLevel } from "../../../src/role/index.js";
import { core } from "../guest.js";
import type { Host } from "./host.js";

export interface TableFormat {
  readonly kind: "shadow" | "npt" | "ept";
  /** MAXPHYADDR of the host less what encryption takes. */
  readonly physBits: number;
  /** Bits that the processor strips from each entry, and what every entry must have there. Default none. */
  readonly encryption?: { readonly mask: bigint; readonly value: bigint };
}

/** MMIO entries lack it: they map nothing. */
const MMU_PRESENT = 1n << 11n;
const EPT_WRITE_BACK = 6n;
const EPTP_LENGTH_SHIFT = 3n;
const SMEP_SMAP = 0x30_0000n;
const EPTP_AD = 0x40n;

type CoreMemory = ReturnType<ReturnType<typeof core>["createMemory"]>;

/** A table's root as the processor gets it. */
export interface Root {
  readonly address: bigint;
  readonly level: number;
  /** EPT: accessed and dirty bits are enabled. Default true. */
  readonly accessedDirty?: boolean;
  /** Under shadow paging: SMEP and SMAP are the guest's own. Default 0n. */
  readonly guestCr4?: bigint;
}

export class Judge {
  #memory: CoreMemory | undefined;
  #size = 0;

  constructor(
    readonly vm: VirtualMachine,
    readonly host: Host,
    readonly format: TableFormat,
  ) {}

  /** Host-physical memory, shared with the VM: what the core's walks go through. */
  memory(): CoreMemory {
    const size = core().linearMemory.buffer.byteLength;
    if (this.#memory === undefined || size !== this.#size) {
      this.#memory?.dispose();
      this.#memory = core().createMemory({ slots: this.host.slots(size) });
      this.#size = size;
    }
    return this.#memory;
  }

  /** The memory that the last space was made over. */
  get lastMemory(): CoreMemory {
    return this.#memory!;
  }

  rootOf(vcpu: Vcpu, accessedDirty = true): Root {
    const { hostAddress, role } = this.vm.page(vcpu.state.mmu.roots.current.page);
    const { cr0, cr4 } = vcpu.registers;
    // The processor pages even where the guest does not, and then without the guest's SMEP and SMAP (vmx_set_cr4).
    const guestCr4 = cr0 >> 31n ? cr4 & SMEP_SMAP : 0n;
    return { address: hostAddress, level: roleLevel(role), accessedDirty, guestCr4 };
  }

  /** The tables of a root as the core walks them; to be disposed of. */
  space(root: Root): AddressSpace {
    return this.#space(core(), this.memory(), root);
  }

  /** The same as the reference walks them. It sees the tables as they are now, and changes nothing. */
  referenceSpace(root: Root): AddressSpace {
    const engine = createReference();
    const { linear } = this.vm.state.core.internals;
    const slots = this.host.slots(linear.u8.length);
    const readPage = (gfn: bigint, into: Uint8Array) => {
      const address = gfn << 12n;
      const slot = slots.find(({ gpa, size }) => address >= gpa && address < gpa + BigInt(size));
      if (slot === undefined) return false;
      const from = slot.linear + Number(address - slot.gpa);
      into.set(linear.u8.subarray(from, from + 4096));
      return true;
    };
    return this.#space(engine, engine.createMemory({ source: { readPage } }), root);
  }

  #space(
    engine: PagingEngine,
    memory: CoreMemory | ReturnType<PagingEngine["createMemory"]>,
    root: Root,
  ): AddressSpace {
    const { kind, physBits: maxPhysAddr, encryption } = this.format;
    if (kind === "ept") {
      const length = BigInt(root.level - 1) << EPTP_LENGTH_SHIFT;
      const eptp = root.address | EPT_WRITE_BACK | length | ((root.accessedDirty ?? true) ? EPTP_AD : 0n);
      return engine.createEpt(memory, { eptp, maxPhysAddr });
    }
    const host = {
      cr0: 0x8001_0001n,
      cr4: root.level === 5 ? 0x1020n : 0x20n,
      efer: root.level === 3 ? 0x800n : 0xd00n,
      maxPhysAddr,
      ...(encryption === undefined ? {} : { encryptionMask: encryption.mask }),
    };
    if (kind === "npt") return engine.createNpt(memory, { ncr3: root.address, ...host });
    return engine.createAddressSpace(memory, { cr3: root.address, ...host, cr4: host.cr4 | (root.guestCr4 ?? 0n) });
  }

  /** Throws where an entry on the way to `address` lacks its encryption bits, or has others. */
  checkEncryption(space: AddressSpace, address: bigint): void {
    const { mask, value } = this.format.encryption ?? { mask: 0n, value: 0n };
    if (mask === 0n) return;
    for (const { entry, level } of space.walk(address, Flag.Read | Flag.User).steps) {
      if ((entry & MMU_PRESENT) !== 0n && (entry & mask) !== value) {
        throw new Error(
          `entry 0x${entry.toString(16)} of level ${level}: encryption bits are not 0x${value.toString(16)}`,
        );
      }
    }
  }

  dispose(): void {
    this.#memory?.dispose();
  }
}
