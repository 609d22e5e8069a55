/**
 * A VM whose guest runs on direct tables, with the host and the VMM around it. Whatever happens, the tables lead to the
 * host's page behind the guest-physical address and give no right that the slot, the host's page or the mitigation forbids.
 */
import type { Kernel } from "../../../src/abi/kernel-rules.js";
import { type AddressSpace, Access as Flag, Status, type Translation } from "../../../src/index.js";
import { type Vcpu, VirtualMachine } from "../../../src/mmu/index.js";
import type { Memslot } from "../../../src/mmu/memory/memslots.js";
import { core } from "../guest.js";
import { DirtyLogs } from "./dirty-truth.js";
import { hooks } from "./hooks.js";
import { Host } from "./host.js";
import { Judge } from "./judge.js";
import { onKernel } from "./kernels.js";
import type { MachineKind } from "./kinds.js";
import { Tlbs } from "./tlb.js";

/** A 64-bit guest. */
const REGISTERS = { cr0: 0x8001_0001n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n };

const SMALL_HVA = 0x7f00_0000_0000n;
const LARGE_HVA = 0x7f40_0000_0000n;
const READ_ONLY_GPA = 0x3000_0000n;
const SMALL_PAGES = 128;
const LARGE_PAGES = 1024;
/** Where the slot of large pages may lie; at the second place no large page can be made. */
const LARGE_AT = [0x4000_0000n, 0xc000_1000n];
/** Further places: beyond 4 GiB, and where only 5 levels reach. */
const HIGH = 0x1_4000_0000n;
const HIGHEST = 1n << 48n;

export const ACCESSES = [Flag.Read, Flag.Write, Flag.Fetch] as const;
const PFERR = { p: 1, w: 2, u: 4, rsvd: 8, i: 16 } as const;
const DIRTY_BIT = { shadow: 0x40n, npt: 0x40n, ept: 0x200n } as const;
const AD_TYPE = 3n << 52n;
const AD_DISABLED = 1n << 52n;

export type Step = readonly [kind: number, a: number, b: number];

export class DirectMachine {
  readonly vm: VirtualMachine;
  readonly host = new Host();
  readonly judge: Judge;
  readonly vcpus: readonly Vcpu[];
  readonly #places: readonly bigint[];
  readonly #smallRam: number;
  readonly #largeRam: number;
  /** Where the slot of large pages lies; undefined where it is deleted. */
  #place: bigint | undefined;
  readonly #logs: DirtyLogs;
  readonly #tlbs: Tlbs;
  #written = 1n;
  /** Turns through the aliases from check to check. */
  #round = 0;

  constructor(
    readonly kind: MachineKind,
    readonly tdpMmu: boolean,
    readonly manualDirtyLog: 0 | 1 | 3,
    kernel: Kernel = "6.1",
  ) {
    const { host } = this;
    this.vm = new VirtualMachine(core(), {
      ...onKernel(kind.config, kernel),
      tdpMmu,
      manualDirtyLog,
      hostMemory: host,
      eventCapacity: hooks.eventCapacity,
    });
    this.judge = new Judge(this.vm, host, kind.format);
    this.#logs = new DirtyLogs(this.vm, manualDirtyLog, (id) => (id === 0 ? [0, 1] : [0]));
    this.#tlbs = new Tlbs(this.vm, host);
    host.onCopy = (start, end) => this.vm.unmapRange(start, end);
    this.#places = [...LARGE_AT, ...(kind.level > 3 ? [HIGH] : []), ...(kind.level > 4 ? [HIGHEST] : [])];
    this.#smallRam = this.vm.createRam(SMALL_PAGES * 4096);
    this.#largeRam = this.vm.createRam(LARGE_PAGES * 4096);
    host.add({ hva: SMALL_HVA, ram: this.#smallRam, pages: SMALL_PAGES, level: 1 });
    host.add({ hva: LARGE_HVA, ram: this.#largeRam, pages: LARGE_PAGES, level: 2 });
    this.#setSmall(false);
    this.#setLarge(this.#places[0], false);
    this.vm.setSlot({ id: 2, gpa: READ_ONLY_GPA, size: 0x4000, ram: this.#smallRam, hva: SMALL_HVA, readOnly: true });
    this.vcpus = [this.vm.createVcpu(REGISTERS), this.vm.createVcpu(REGISTERS)];
  }

  #setSmall(logDirty: boolean): void {
    const slot = { id: 0, gpa: 0n, size: SMALL_PAGES * 4096, ram: this.#smallRam, hva: SMALL_HVA, logDirty };
    // System-management mode sees the same memory, and has a log of its own.
    for (const addressSpace of [0, 1]) this.vm.setSlot({ ...slot, addressSpace });
    this.#logs.set(0, logDirty);
  }

  #setLarge(place: bigint | undefined, logDirty: boolean): void {
    const moved = place !== this.#place;
    if (place !== undefined) {
      const size = LARGE_PAGES * 4096;
      this.vm.setSlot({ id: 1, gpa: place, size, ram: this.#largeRam, hva: LARGE_HVA, logDirty });
    } else if (this.#place !== undefined) this.vm.setSlot({ id: 1, gpa: this.#place, size: 0 });
    this.#place = place;
    if (moved) this.#logs.set(1, false);
    this.#logs.set(1, logDirty && place !== undefined);
  }

  /** Guest-physical addresses that are looked at in every step. */
  #probes(): bigint[] {
    const near = [0n, 0x1000n, 0x5000n, 0x7f000n, READ_ONLY_GPA, READ_ONLY_GPA + 0x3000n, 0x2000_0000n];
    return [...near, ...this.#places.flatMap((at) => [at, at + 0x1f_f000n, at + 0x20_0000n, at + 0x3f_e000n])];
  }

  /** An alias of an address: each of the 2^n combinations of stolen bits for some `n`. */
  #alias(gpa: bigint, n: number): bigint {
    let bits = 0n;
    for (let mask = this.kind.aliasMask; mask !== 0n; mask &= mask - 1n, n >>= 1) if (n & 1) bits |= mask & -mask;
    return gpa | bits;
  }

  /** What memslots and the host know of an address. */
  #plain(gpa: bigint): bigint {
    return gpa & ~this.kind.aliasMask;
  }

  #slotOf(gpa: bigint, vcpu: Vcpu): Memslot | undefined {
    return this.vm.state.slots.visible(vcpu.state.space, this.#plain(gpa) >> 12n);
  }

  /** Host-virtual address behind `gpa`, undefined where there is no slot. */
  #hva(gpa: bigint, vcpu: Vcpu): bigint | undefined {
    const slot = this.#slotOf(gpa, vcpu);
    return slot === undefined ? undefined : slot.hva + (this.#plain(gpa) - (slot.base << 12n));
  }

  #space(vcpu: Vcpu): AddressSpace {
    return this.judge.space(this.judge.rootOf(vcpu, this.kind.accessedDirty));
  }

  /** Looks at every probe of every vCPU through the tables that it has now. */
  check(withReference: boolean): void {
    for (const vcpu of this.vcpus) {
      vcpu.enterGuest();
      const root = this.judge.rootOf(vcpu, this.kind.accessedDirty);
      const space = this.judge.space(root);
      const second = withReference ? this.judge.referenceSpace(root) : undefined;
      for (const plain of this.#probes()) {
        const gpa = this.#alias(plain, this.#round++);
        this.judge.checkEncryption(space, gpa);
        for (const access of ACCESSES) {
          const found = space.translate(gpa, access | Flag.Probe | Flag.User);
          this.#checkFound(vcpu, gpa, access, found);
          if (second !== undefined) sameResult(found, second.translate(gpa, access | Flag.Probe | Flag.User), gpa);
        }
        if (this.#logs.isOn(0) || this.#logs.isOn(1)) this.#checkLogged(vcpu, space, gpa);
      }
      space.dispose?.();
    }
    this.#tlbs.check();
  }

  #checkFound(vcpu: Vcpu, gpa: bigint, access: number, found: Translation): void {
    if (!found.ok) return;
    const what = `vCPU ${vcpu.id}: access ${access} to ${gpa.toString(16)}`;
    const hva = this.#hva(gpa, vcpu);
    if (hva === undefined) throw new Error(`${what} leads to ${found.pa.toString(16)}, where no slot is`);
    const frame = this.host.frame(hva);
    if (found.pa >> 12n !== frame) {
      throw new Error(`${what} leads to frame ${(found.pa >> 12n).toString(16)}, not ${frame.toString(16)}`);
    }
    if (access !== Flag.Fetch && gpa & this.kind.executeOnlyAliases) throw new Error(`${what} is no fetch`);
    const slot = this.#slotOf(gpa, vcpu)!;
    if (access === Flag.Write && (slot.flags & 2) !== 0) throw new Error(`${what} is allowed in a read-only slot`);
    if (access === Flag.Write && this.host.isShared(hva)) throw new Error(`${what} is allowed to a shared page`);
    if (access === Flag.Fetch && this.kind.nxHugePages && found.pageSize > 4096) {
      throw new Error(`${what} is allowed in a page of ${found.pageSize} bytes`);
    }
  }

  /** A page that can be written without an exit is in the log, unless the processor's own log will tell. */
  #checkLogged(vcpu: Vcpu, space: AddressSpace, gpa: bigint): void {
    const slot = this.#slotOf(gpa, vcpu);
    if (slot === undefined || !slot.core.hasLog) return;
    const { result, steps } = space.walk(gpa, Flag.Write | Flag.User);
    if (!result.ok || (this.#logsItself(vcpu, steps.at(-1)!.entry) && !this.#isDirty(steps.at(-1)!.entry))) return;
    const page = Number((this.#plain(gpa) >> 12n) - slot.base);
    if (!slot.core.isDirty(page)) {
      throw new Error(`${gpa.toString(16)} can be written unnoticed and is not in the dirty log`);
    }
  }

  #isDirty(spte: bigint): boolean {
    return (spte & DIRTY_BIT[this.kind.format.kind]) !== 0n;
  }

  /** The processor logs a write through an entry whose D bit is clear; nested guests run without that. */
  #logsItself(vcpu: Vcpu, spte: bigint): boolean {
    return this.kind.pageModificationLog && !vcpu.inGuestMode && (spte & AD_TYPE) !== AD_DISABLED;
  }

  /** The guest accesses `gpa` until it succeeds or the access ends otherwise. */
  access(gpa: bigint, access: number, vcpu: Vcpu): void {
    const hva = this.#hva(gpa, vcpu);
    const readOnly = ((this.#slotOf(gpa, vcpu)?.flags ?? 0) & 2) !== 0;
    // A write to a read-only slot is the VMM's, like MMIO.
    let wanted = hva === undefined || (readOnly && access === Flag.Write) ? "mmio emulate" : "ok";
    // Injected whatever lies there.
    if (hva !== undefined && access !== Flag.Fetch && gpa & this.kind.executeOnlyAliases) wanted = "inject";
    const result = this.#run(gpa, access, vcpu);
    if (!wanted.includes(result)) throw new Error(`access ${access} to ${gpa.toString(16)} ends as ${result}`);
  }

  #run(gpa: bigint, access: number, vcpu: Vcpu): string {
    for (let tries = 0; tries < 8; tries++) {
      vcpu.enterGuest();
      const space = this.#space(vcpu);
      const before = space.walk(gpa, access | Flag.User).steps.at(-1)?.entry ?? 0n;
      const found = space.translate(gpa, access | Flag.User);
      space.dispose?.();
      if (found.ok) {
        this.#checkFound(vcpu, gpa, access, found);
        this.#tlbs.keep(vcpu, gpa, access, found.pa);
        if (access === Flag.Write) this.#write(gpa, vcpu, before);
        return "ok";
      }
      const { result } = vcpu.pageFault(gpa, faultCode(found));
      if (result === "emulate" || result === "mmio" || result === "inject") return result;
    }
    return "loop";
  }

  /** The guest's write, through a leaf that was `spte` before it. */
  #write(gpa: bigint, vcpu: Vcpu, spte: bigint): void {
    const slot = this.#slotOf(gpa, vcpu)!;
    this.vm.state.core.internals.linear.u64[(slot.ram + Number(this.#plain(gpa) - (slot.base << 12n))) / 8] = this
      .#written++;
    // The processor logs the address with its alias bits; who empties its log strips them.
    if (this.#logsItself(vcpu, spte) && !this.#isDirty(spte))
      this.vm.markDirty(this.#plain(gpa) >> 12n, vcpu.state.space);
  }

  #gpa(a: number, b: number): bigint {
    if (a % 4 === 0) return (BigInt(b % SMALL_PAGES) << 12n) + (a & 16 ? READ_ONLY_GPA : 0n);
    if (a % 4 === 1) {
      const probes = this.#probes();
      return probes[b % probes.length]!;
    }
    return this.#places[b % this.#places.length]! + (BigInt((b >> 4) % LARGE_PAGES) << 12n);
  }

  step([kind, a, b]: Step): void {
    const { vm } = this;
    const vcpu = this.vcpus[a & 1]!;
    const gpa = this.#alias(this.#gpa(a >> 1, b), a >> 5);
    const hva = this.#hva(gpa, vcpu);
    if (kind < 50) this.access(gpa, ACCESSES[b % 3]!, vcpu);
    else if (kind < 54) this.host.interrupt = hva === undefined ? undefined : () => this.#unmap(hva, a);
    else if (kind < 60 && hva !== undefined) this.#unmap(hva, a);
    else if (kind < 64 && hva !== undefined) vm.changePage(hva & ~0xfffn, this.host.share(hva));
    else if (kind < 66 && hva !== undefined) vm.unmapRange(...this.host.resize(hva));
    else if (kind < 71 && hva !== undefined) (a & 2 ? vm.age : vm.testAge).call(vm, hva, hva + 0x4000n);
    else if (kind < 75) this.#setLarge(this.#places[b % (this.#places.length + 1)], this.#logs.isOn(1));
    else if (kind < 80) this.#toggleLog(a & 2 ? 0 : 1);
    else if (kind < 86) this.#logs.collect(a & 2 ? 0 : 1, b);
    else if (kind < 89) vm.recoverHugePages(a % 4);
    else if (kind < 92) this.#toggleSmm(vcpu);
    else if (kind < 95) this.#toggleNested(vcpu);
    else if (kind < 98) this.#writeRegister(vcpu, b);
    else vm.setPageLimit(64 + (b % 8));
  }

  #unmap(hva: bigint, a: number): void {
    const end = hva + (BigInt((a % 8) + 1) << 12n);
    const region = this.host.regions.find((one) => hva >= one.hva && hva < one.hva + (BigInt(one.pages) << 12n))!;
    const last = region.hva + (BigInt(region.pages) << 12n);
    this.vm.unmapRange(...this.host.move(hva, end < last ? end : last));
  }

  #toggleLog(id: 0 | 1): void {
    if (id === 0) this.#setSmall(!this.#logs.isOn(0));
    else if (this.#place !== undefined) this.#setLarge(this.#place, !this.#logs.isOn(1));
  }

  #toggleSmm(vcpu: Vcpu): void {
    if (vcpu.inGuestMode) return;
    if (vcpu.inSmm) vcpu.leaveSmm(REGISTERS);
    else vcpu.enterSmm();
  }

  /** A nested guest whose L1 uses no nested paging: its addresses are L1's. */
  #toggleNested(vcpu: Vcpu): void {
    if (vcpu.inSmm) return;
    if (vcpu.inGuestMode) vcpu.exitNested(REGISTERS);
    else vcpu.enterNested(REGISTERS);
  }

  /** Registers decide nothing about direct tables but which root they have. */
  #writeRegister(vcpu: Vcpu, b: number): void {
    if (vcpu.inSmm) return;
    if (b % 4 === 0) vcpu.writeCr0(vcpu.registers.cr0 ^ 0x10000n);
    else if (b % 4 === 1) vcpu.writeCr4(vcpu.registers.cr4 ^ 0x10_0000n);
    else if (b % 4 === 2) vcpu.writeEfer(vcpu.registers.efer ^ 0x800n);
    else vcpu.setGuestRegisters({ cr3: BigInt(b >> 2) << 12n });
  }

  dispose(): void {
    this.judge.dispose();
    this.vm.dispose();
  }
}

/** PFERR bits of a fault that the processor found, as KVM gets them. */
export function faultCode(found: Translation & { ok: false }): number {
  if (found.status === Status.NestedPageFault) return Number(found.errorCode & 0x1fn);
  // A misconfiguration: the exit says nothing about the access.
  if (found.status === Status.EptMisconfiguration) return PFERR.rsvd;
  // An access to a guest's table is a write where EPT has accessed and dirty flags (handle_ept_violation).
  const code = Number(found.errorCode);
  const access = (code & 1 ? PFERR.u : 0) | (code & 2 ? PFERR.w : 0) | (code & 4 ? PFERR.i : 0);
  return access | (code & 0x38 ? PFERR.p : 0);
}

/** Throws where two walks of the same tables differ. */
export function sameResult(a: Translation, b: Translation, address: bigint): void {
  const same =
    a.ok && b.ok ? a.pa === b.pa && a.pageSize === b.pageSize : !a.ok && !b.ok && a.errorCode === b.errorCode;
  if (!same) throw new Error(`${address.toString(16)}: the core and the reference walk the tables differently`);
}
