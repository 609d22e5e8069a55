/** An L1 hypervisor and its nested guest: L1's second stage in any format, and the hardware that runs L2 on its shadow. */
import { Access, type Translation } from "../../src/index.js";
import type { FaultOutcome, SecondStage } from "../../src/mmu/index.js";
import { eptMasks } from "../../src/spte/index.js";
import { bytesOf, core, FULL, Guest, type GuestConfig, type Mode, registersOf, walkHost } from "./guest.js";

const PAE = 0x20n;
const LA57 = 0x1000n;
const PE_PG = 0x8000_0001n;
/** EPT entries: read, write, execute, accessed, dirty, write-back. */
export const EPT = { r: 1n, w: 2n, x: 4n, a: 0x100n, d: 0x200n, wb: 6n << 3n } as const;
export const EPT_RWX = EPT.r | EPT.w | EPT.x;
/** L2 with paging off: its linear addresses are guest-physical ones. */
export const UNPAGED = { cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n };

export type Level = 3 | 4 | 5;

/** Registers of an L1 in `mode`, for itself and as the host registers of its NPT. */
function hostRegisters(mode: Mode, pse: boolean) {
  const registers = registersOf(mode, 0n);
  return { ...registers, cr4: pse ? registers.cr4 : registers.cr4 & ~0x10n };
}

/** A VM with NPT of `level` levels whose L1 runs in `mode`, with an NPT of its own in the same mode. */
export class NestedNpt extends Guest {
  readonly root: bigint;
  readonly stage: SecondStage;
  readonly #registers;
  readonly #level: Level;

  constructor(level: Level, mode: Mode, config: GuestConfig & { pse?: boolean; ncr3?: bigint } = {}) {
    const { pse = true, ncr3, ...rest } = config;
    super({ paging: "npt", tdpLevels: { forced: level, max: level }, ...rest });
    this.#level = level;
    this.mode = mode;
    const table = this.table();
    this.root = ncr3 === undefined ? table : table | ncr3;
    this.#registers = hostRegisters(mode, pse);
    this.vcpu = this.vm.createVcpu(this.#registers);
    this.vcpu.enterGuest();
    const { cr4: hostCr4, efer: hostEfer } = this.#registers;
    this.stage = { kind: "npt", ncr3: this.root, hostCr4, hostEfer };
  }

  /** Address of L1's leaf entry for a guest-physical address of L2's. */
  leafOf(root: bigint, gpa: bigint): bigint {
    let table = root;
    for (let level = this.levels(); level > 1; level--) {
      table = this.read(this.entryAddress(table, gpa, level)) & 0x000f_ffff_ffff_f000n;
    }
    return this.entryAddress(table, gpa, 1);
  }

  enter(registers = UNPAGED, stage: SecondStage = this.stage): void {
    this.vcpu.enterNested(registers, stage);
    this.vcpu.enterGuest();
  }

  exit(): void {
    this.vcpu.exitNested(this.#registers);
    this.vcpu.enterGuest();
  }

  /** What the processor finds for a guest-physical address in the tables of the context that runs. */
  second(gpa: bigint, access: number): Translation {
    const page = this.vm.page(this.vcpu.state.mmu.roots.current.page);
    const npt = {
      ncr3: page.hostAddress,
      cr0: 0x8001_0001n,
      cr4: PAE | (this.#level === 5 ? LA57 : 0n),
      efer: this.#level === 3 ? 0x800n : 0xd00n,
      maxPhysAddr: 46,
    };
    return walkHost(core(), (memory) => core().createNpt(memory, npt), gpa, access);
  }

  /** The guest that runs accesses a guest-physical address: its gfn of L1's, or how the fault ended. */
  touch(gpa: bigint, access: number): bigint | FaultOutcome | undefined {
    for (let tries = 0; tries < 8; tries++) {
      this.vcpu.enterGuest();
      const found = this.second(gpa, access);
      if (found.ok) return this.gfnOf(found.pa);
      const outcome = this.vcpu.pageFault(gpa, Number(BigInt(found.errorCode) & 0xffff_ffffn));
      if (outcome.result !== "fixed" && outcome.result !== "spurious" && outcome.result !== "retry") return outcome;
    }
    throw new RangeError("the fault never ends");
  }

  /** L1 writes an entry of its own tables, as its CPU would through the direct tables. */
  l1Write(gpa: bigint, entry: bigint): string {
    const result = this.touch(gpa, Access.Write);
    const bytes = bytesOf(entry, this.entryBytes);
    if (typeof result === "bigint") this.vm.writeGuest(gpa, bytes);
    else this.vcpu.emulatedWrite(gpa, bytes);
    return typeof result === "bigint" ? "written" : "emulated";
  }
}

/** A VM with EPT whose L1 runs in long mode and has an EPT of its own. */
export class NestedEpt extends Guest {
  readonly root: bigint;

  constructor(
    config: GuestConfig = {},
    readonly accessedDirty = true,
  ) {
    super({ paging: "ept", virtualization: "vmx", masks: eptMasks({ physBits: 46 }), ...config });
    this.mode = "4level";
    this.root = this.table();
    this.vcpu = this.vm.createVcpu(registersOf("4level", 0n));
    this.vcpu.enterGuest();
  }

  get stage(): SecondStage {
    const eptp = this.root | 6n | (3n << 3n) | (this.accessedDirty ? 0x40n : 0n);
    return { kind: "ept", eptp, executeOnly: true, hugePageLevel: 3, accessedDirty: this.accessedDirty };
  }

  enter(registers = UNPAGED): void {
    this.vcpu.enterNested(registers, this.stage);
    this.vcpu.enterGuest();
  }

  exit(): void {
    this.vcpu.exitNested(registersOf("4level", 0n));
    this.vcpu.enterGuest();
  }

  /** Maps a page in L1's EPT; returns the address of the leaf. */
  mapEpt(gpa: bigint, to: bigint, rights = EPT_RWX): bigint {
    let table = this.root;
    for (let level = 4; level > 1; level--) {
      const at = this.entryAddress(table, gpa, level);
      let entry = this.read(at);
      if ((entry & EPT_RWX) === 0n) {
        entry = this.table() | EPT_RWX;
        this.poke(at, entry);
      }
      table = entry & 0x000f_ffff_ffff_f000n;
    }
    const leaf = this.entryAddress(table, gpa, 1);
    this.poke(leaf, to | rights | EPT.wb);
    return leaf;
  }

  second(gpa: bigint, access: number): Translation {
    const page = this.vm.page(this.vcpu.state.mmu.roots.current.page);
    const ept = { eptp: page.hostAddress | 0x1en, maxPhysAddr: 46 };
    return walkHost(core(), (memory) => core().createEpt(memory, ept), gpa, access);
  }

  touch(gpa: bigint, access: number): bigint | FaultOutcome | undefined {
    for (let tries = 0; tries < 8; tries++) {
      this.vcpu.enterGuest();
      const found = this.second(gpa, access);
      if (found.ok) return this.gfnOf(found.pa);
      const qualification = Number(found.errorCode);
      const code =
        (qualification & 1 ? 4 : 0) |
        (qualification & 2 ? 2 : 0) |
        (qualification & 4 ? 16 : 0) |
        (qualification & 0x38 ? 1 : 0);
      const outcome = this.vcpu.pageFault(gpa, code);
      if (outcome.result !== "fixed" && outcome.result !== "spurious" && outcome.result !== "retry") return outcome;
    }
    throw new RangeError("the fault never ends");
  }

  l1Write(gpa: bigint, entry: bigint): string {
    const result = this.touch(gpa, Access.Write);
    if (typeof result === "bigint") this.vm.writeGuest(gpa, bytesOf(entry, 8));
    else this.vcpu.emulatedWrite(gpa, bytesOf(entry, 8));
    return typeof result === "bigint" ? "written" : "emulated";
  }
}

export { FULL, PE_PG };
