/**
 * A VM under shadow paging whose guest edits its tables, with the host and the VMM around it. What the processor finds in the
 * shadow tables is what the guest's own tables, the memslots and the host allow, now or at some time since the last flush
 * that the guest made for that address: never more.
 */
import type { Kernel } from "../../../src/abi/kernel-rules.js";
import { Access, type AddressSpace } from "../../../src/index.js";
import type { ControlRegisters, Vcpu } from "../../../src/mmu/index.js";
import { legacyMasks } from "../../../src/spte/index.js";
import {
  bytesOf,
  core,
  FULL,
  Guest,
  HIGH_HVA,
  HIGH_PAGES,
  HIGH_SLOT,
  MMIO_GPA,
  type Mode,
  RAM_HVA,
  RAM_PAGES,
  registersOf,
} from "../guest.js";
import { sameResult } from "./direct-machine.js";
import { DirtyLogs } from "./dirty-truth.js";
import { Host } from "./host.js";
import { Judge, type Root } from "./judge.js";
import { addNeighbours, NEIGHBOURS } from "./neighbours.js";
import { Tlbs } from "./tlb.js";

export interface ShadowKind {
  readonly kernel: Kernel;
  readonly mode: Mode;
  readonly minimumRootLevel: 3 | 4 | 5;
  readonly wp: boolean;
  readonly defaultPaePdpte: boolean;
  readonly encrypted: boolean;
  readonly nxHugePages: boolean;
  readonly virtualization: "svm" | "vmx";
  readonly manualDirtyLog: 0 | 1 | 3;
}

export type Step = readonly [kind: number, a: number, b: number, c: number];

const { Read, Write, Fetch, User } = Access;
const ACCESSES = [Read, Write, Fetch, Read | User, Write | User, Fetch | User];
const DATA = 0x20_0000n;
const READ_ONLY_GPA = 0x9000_0000n;
const NX = 1n << 63n;
const RESERVED = 1n << 50n;
const C_BIT = { mask: 1n << 47n, value: 1n << 47n };
const PG = 1n << 31n;
const WP = 0x10000n;
const SMEP = 0x10_0000n;
const SMAP = 0x20_0000n;
const PGE = 0x80n;
const NXE = 0x800n;

/** Addresses that are looked at: two level-1 tables, a region of large pages. */
const PROBES = [0x40_0000n, 0x40_1000n, 0x40_5000n, 0x60_0000n, 0x60_2000n, 0x4000_0000n, 0x4020_3000n, 0x20_0000n];

/** The guest reaches its tables through addresses from here on; no entry on the way to them is ever edited. */
function windowOf(mode: Mode): bigint {
  if (mode === "5level") return 1n << 48n;
  return mode === "4level" ? 1n << 39n : 0x8000_0000n;
}

export class ShadowMachine {
  readonly guest: Guest;
  readonly host = new Host();
  readonly judge: Judge;
  readonly roots: bigint[] = [];
  readonly tables: { address: bigint; level: number }[] = [];
  readonly vcpus: Vcpu[] = [];
  /** By vCPU, probe and access: gfns that a translation may lead to. */
  readonly #allowed = new Map<string, Set<bigint>>();
  readonly #mode: Mode;
  readonly #logs: DirtyLogs;
  readonly #tlbs: Tlbs;
  /** Registers to which a vCPU returns from system-management mode. */
  readonly #interrupted = new Map<Vcpu, ControlRegisters>();
  readonly #guestMemory: ReturnType<ReturnType<typeof core>["createMemory"]>;
  #written = 1n;
  /** The vCPU whose fault was handled last. */
  #running: Vcpu | undefined;

  constructor(readonly kind: ShadowKind) {
    const { mode, wp, encrypted, ...config } = kind;
    this.#mode = mode;
    const encryption = encrypted ? { encryption: C_BIT } : {};
    const masks = legacyMasks({ physBits: 46, ...encryption });
    this.guest = new Guest({ ...config, host: this.host, maxHugeLevel: 3, masks });
    const { guest } = this;
    this.judge = new Judge(guest.vm, this.host, { kind: "shadow", physBits: 46, ...encryption });
    this.#tlbs = new Tlbs(guest.vm, this.host);
    this.host.onCopy = (start, end) => guest.vm.unmapRange(start, end);
    // System-management mode sees the same low memory, and has a log of its own.
    this.#logs = new DirtyLogs(guest.vm, kind.manualDirtyLog, (id) => (id === 0 ? [0, 1] : [0]));
    guest.mode = mode;
    const ram = guest.vm.createRam(0x4000);
    const hva = 0x7f80_0000_0000n;
    this.host.add({ hva, ram, pages: 4, level: 1 });
    guest.vm.setSlot({ id: 5, gpa: READ_ONLY_GPA, size: 0x4000, ram, hva, readOnly: true });
    addNeighbours(guest.vm, this.host);
    this.#setLow(false);
    this.#guestMemory = core().createMemory({
      slots: [
        { gpa: 0n, size: RAM_PAGES * 4096, linear: guest.ram },
        { gpa: HIGH_SLOT, size: HIGH_PAGES * 4096, linear: guest.high },
      ],
    });
    if (mode !== "nopg") this.#build();
    for (let i = 0; i < 2; i++) {
      const root = this.roots[i % Math.max(this.roots.length, 1)] ?? 0n;
      this.vcpus.push(guest.vm.createVcpu(registersOf(mode, root, { wp })));
    }
    guest.vcpu = this.vcpus[0]!;
  }

  #build(): void {
    const { guest } = this;
    for (let r = 0; r < 3; r++) {
      const root = guest.table();
      this.roots.push(root);
      for (const probe of PROBES) guest.map(root, probe, DATA + (probe & 0xf_f000n));
    }
    this.#findTables();
    // Every table has a window in every root; the windows' own tables are left out of the edits.
    this.tables.forEach(({ address }, i) => {
      for (const root of this.roots) guest.map(root, windowOf(this.#mode) + (BigInt(i) << 12n), address);
    });
  }

  #findTables(): void {
    const { guest } = this;
    const seen = new Set<bigint>();
    const visit = (address: bigint, level: number) => {
      if (seen.has(address) || level === 0) return;
      seen.add(address);
      if (!(this.#mode === "pae" && level === 3)) this.tables.push({ address, level });
      for (const probe of PROBES) {
        const entry = guest.read(guest.entryAddress(address, probe, level));
        if (entry & 1n && !(entry & 0x80n)) visit(entry & 0x000f_ffff_ffff_f000n, level - 1);
      }
    };
    for (const root of this.roots) visit(root, guest.levels());
  }

  // ---------------------------------------------------------------- what the guest may reach

  #own(vcpu: Vcpu, probe: bigint, access: number, forced = 0n): bigint | undefined {
    const found = this.ownTranslation(vcpu, probe, access, forced);
    return found.ok ? this.#visible(vcpu, found.pa >> 12n, access) : undefined;
  }

  #visible(vcpu: Vcpu, gfn: bigint, access: number): bigint | undefined {
    const slot = this.guest.vm.state.slots.visible(vcpu.state.space, gfn);
    if (slot === undefined) return undefined;
    return access & Write && slot.flags & 2 ? undefined : gfn;
  }

  /** By the guest's own tables; `forced`: bits of EFER that count as set. */
  ownTranslation(vcpu: Vcpu, probe: bigint, access: number, forced = 0n) {
    const { cr0, cr3, cr4, efer } = vcpu.registers;
    if ((cr0 & PG) === 0n) return { ok: true as const, pa: probe };
    const pdptes =
      this.#mode === "pae" ? { pdpteValues: vcpu.state.rootMmu.pdptes as [bigint, bigint, bigint, bigint] } : {};
    const config = { cr0, cr3, cr4, efer: efer | forced, maxPhysAddr: 46, rules: "kvm-6.1" as const };
    const space = core().createAddressSpace(this.#guestMemory, { ...config, ...pdptes });
    const found = space.translate(probe, access | Access.Probe);
    space.dispose();
    return found;
  }

  #key(vcpu: Vcpu, probe: bigint, access: number): string {
    return `${vcpu.id} ${probe} ${access}`;
  }

  #record(vcpu: Vcpu, probe: bigint, access: number): void {
    const key = this.#key(vcpu, probe, access);
    // KVM's shadow pages are for EFER.NXE=1 and for 0 (kvm_calc_shadow_root_page_role): where an entry's XD is reserved, a page
    // that was made for a vCPU with NXE=1 still serves.
    const gfn = this.#own(vcpu, probe, access) ?? this.#own(vcpu, probe, access, NXE);
    let set = this.#allowed.get(key);
    if (set === undefined) {
      set = new Set();
      this.#allowed.set(key, set);
    }
    if (gfn !== undefined) set.add(gfn);
  }

  /** The vCPU has flushed everything: only what is so now may be found from here on. */
  flush(vcpu: Vcpu): void {
    this.#tlbs.flush(vcpu);
    for (const probe of PROBES) this.flushPage(vcpu, probe);
  }

  flushPage(vcpu: Vcpu, probe: bigint): void {
    this.#tlbs.flushPage(vcpu, probe);
    for (const access of ACCESSES) this.#allowed.delete(this.#key(vcpu, probe, access));
  }

  /** Looks at every probe through the shadow tables. */
  check(withReference: boolean): void {
    for (const vcpu of this.vcpus) {
      for (const probe of PROBES) for (const access of ACCESSES) this.#record(vcpu, probe, access);
      // Its root table may lie in a slot that is gone: the guest triple-faults.
      if (!vcpu.enterGuest()) continue;
      const root = this.judge.rootOf(vcpu);
      const space = this.judge.space(root);
      for (const probe of PROBES) {
        this.judge.checkEncryption(space, probe);
        for (const access of ACCESSES) this.#checkProbe(vcpu, space, probe, access);
      }
      if (withReference) this.#repeat(space, root);
      space.dispose?.();
    }
    this.#tlbs.check();
  }

  #checkProbe(vcpu: Vcpu, space: AddressSpace, probe: bigint, access: number): void {
    const found = space.translate(probe, access | Access.Probe);
    if (!found.ok) return;
    const what = `vCPU ${vcpu.id}: ${probe.toString(16)} access ${access}`;
    const hva = this.host.hvaOf(found.pa);
    if (hva === undefined) throw new Error(`${what} leads to frame ${found.pa.toString(16)}, which is not the host's`);
    const allowed = [...this.#allowed.get(this.#key(vcpu, probe, access))!];
    const gfn = allowed.find((one) => this.#hva(vcpu, one) === (hva & ~0xfffn));
    if (gfn === undefined) {
      throw new Error(
        `${what} leads to ${hva.toString(16)}, allowed: ${allowed.map((one) => one.toString(16)).join()}`,
      );
    }
    if (this.kind.nxHugePages && access & Fetch && found.pageSize > 4096)
      throw new Error(`${what} runs in a huge page`);
    if (!(access & Write)) return;
    if (this.host.isShared(hva)) throw new Error(`${what} may write a shared page`);
    this.#checkDirty(vcpu, gfn);
  }

  #hva(vcpu: Vcpu, gfn: bigint): bigint | undefined {
    const slot = this.guest.vm.state.slots.visible(vcpu.state.space, gfn);
    return slot === undefined ? undefined : slot.hva + ((gfn - slot.base) << 12n);
  }

  /** A page that the guest can write unnoticed is in the dirty log already. */
  #checkDirty(vcpu: Vcpu, gfn: bigint): void {
    const slot = this.guest.vm.state.slots.visible(vcpu.state.space, gfn)!;
    if (slot.core.hasLog && !slot.core.isDirty(Number(gfn - slot.base)))
      throw new Error(`gfn ${gfn.toString(16)} is writable and not in the dirty log`);
  }

  #repeat(space: AddressSpace, root: Root): void {
    const second = this.judge.referenceSpace(root);
    for (const probe of PROBES) {
      for (const access of ACCESSES) {
        sameResult(
          space.translate(probe, access | Access.Probe),
          second.translate(probe, access | Access.Probe),
          probe,
        );
      }
    }
  }

  // ---------------------------------------------------------------- what happens

  step([kind, a, b, c]: Step): void {
    const vcpu = this.vcpus[a % 2]!;
    const probe = PROBES[b % PROBES.length]!;
    const what = kind % 24;
    if (what < 6) this.#touch(vcpu, probe, ACCESSES[c % ACCESSES.length]!);
    else if (what < 10) this.#edit(vcpu, b, c);
    else if (what === 10) {
      vcpu.invlpg(probe);
      this.flushPage(vcpu, probe);
    } else if (what < 16) this.#changeVcpu(vcpu, what, b);
    else if (what < 20) this.#changeMemory(what, b, c);
    else this.#changeHost(what, b, c);
  }

  /** Register writes and switches: all flush everything. */
  #changeVcpu(vcpu: Vcpu, what: number, b: number): void {
    const { registers, inSmm, inGuestMode } = vcpu;
    if (what === 11 && b % 8 === 0 && !inGuestMode) this.#switchSmm(vcpu);
    else if (what === 12 && b % 2 === 0 && !inSmm) {
      // The nested guest has L1's registers, but tables of its own may follow.
      if (inGuestMode) vcpu.exitNested(registers);
      else vcpu.enterNested(registers);
    } else if (inSmm) return;
    else if (what < 14) vcpu.writeCr3(this.roots[b % this.roots.length] ?? BigInt(b % 16) << 12n);
    else if (what === 14 && this.#mode !== "nopg") {
      if (b % 3 === 0) vcpu.writeEfer(registers.efer ^ NXE);
      else vcpu.writeCr0(registers.cr0 ^ WP);
    } else vcpu.writeCr4(registers.cr4 ^ [PGE, SMEP, SMAP][b % 3]!);
    this.flush(vcpu);
  }

  #switchSmm(vcpu: Vcpu): void {
    if (vcpu.inSmm) vcpu.leaveSmm(this.#interrupted.get(vcpu)!);
    else {
      this.#interrupted.set(vcpu, vcpu.registers);
      vcpu.enterSmm();
    }
  }

  /** What the VMM does. */
  #changeMemory(what: number, b: number, c: number): void {
    const { vm, high } = this.guest;
    const exists = vm.state.slots.find(0, 1) !== undefined;
    const highSlot = { id: 1, gpa: HIGH_SLOT, ram: high, hva: HIGH_HVA, size: HIGH_PAGES * 4096 };
    if (what === 16 && b % 2 === 0) this.#setLow(c % 2 === 0);
    else if (what === 16 || what === 17) {
      const logs = what === 16 && c % 2 === 0;
      if (what === 16 && !exists) return;
      vm.setSlot({ ...highSlot, logDirty: logs, size: what === 17 && exists ? 0 : highSlot.size });
      this.#logs.set(1, logs);
    } else if (what === 18) this.#logs.collect(b % 2 === 0 ? 0 : 1, c);
    else if (b % 4 === 0) vm.setPageLimit(64 + (c % 8));
    else vm.recoverHugePages(c % 4);
  }

  #setLow(logDirty: boolean): void {
    const { vm, ram } = this.guest;
    const slot = { id: 0, gpa: 0n, size: RAM_PAGES * 4096, ram, hva: RAM_HVA, logDirty };
    for (const addressSpace of [0, 1]) vm.setSlot({ ...slot, addressSpace });
    this.#logs.set(0, logDirty);
  }

  /** What the host does with its pages. */
  #changeHost(what: number, b: number, c: number): void {
    const { vm } = this.guest;
    const at = c % 3 === 0 ? HIGH_HVA + (BigInt(b % HIGH_PAGES) << 12n) : RAM_HVA + DATA + (BigInt(b % 64) << 12n);
    const unmap = () => vm.unmapRange(...this.host.move(at, at + (BigInt((b >>> 4) % 4) << 12n) + 1n));
    if (what === 20) unmap();
    else if (what === 21) this.host.interrupt = b % 2 === 0 ? unmap : () => this.#editMeanwhile(b >>> 3, c);
    else if (what === 22 && b % 3 === 0) vm.unmapRange(...this.host.resize(at));
    else if (what === 22) vm.changePage(at, this.host.share(at));
    else (b % 2 ? vm.age : vm.testAge).call(vm, at, at + 0x8000n);
  }

  // ---------------------------------------------------------------- what the guest does

  #touch(vcpu: Vcpu, probe: bigint, access: number): void {
    const result = this.#access(vcpu, probe, access);
    if (result === "ok" || result === "emulate") {
      const own = this.ownTranslation(vcpu, probe, access);
      // Written where the old translation still led, or where the new one leads.
      if (!(access & Write) || !own.ok) return;
      this.#write(vcpu, result, probe, own.pa, this.#written++, 8);
      return;
    }
    if (!result.startsWith("#PF")) return;
    const own = this.ownTranslation(vcpu, probe, access);
    const wanted = own.ok ? "ok" : `#PF ${own.errorCode.toString(16)}`;
    if (wanted !== result) throw new Error(`${probe.toString(16)} access ${access}: ${result}, expected ${wanted}`);
  }

  /** Faults are handled until the access succeeds or ends otherwise. */
  #access(vcpu: Vcpu, gva: bigint, access: number): string {
    for (let tries = 0; tries < 8; tries++) {
      if (!vcpu.enterGuest()) return "shutdown";
      const space = this.judge.space(this.judge.rootOf(vcpu));
      const found = space.translate(gva, access);
      space.dispose?.();
      if (found.ok) {
        this.#tlbs.keep(vcpu, gva, access, found.pa);
        return "ok";
      }
      this.#running = vcpu;
      const outcome = vcpu.pageFault(gva, Number(found.errorCode));
      if (outcome.result === "inject") return `#PF ${outcome.errorCode.toString(16)}`;
      if (outcome.result === "emulate" || outcome.result === "mmio") return outcome.result;
    }
    throw new Error(`access ${access} to ${gva.toString(16)} never ends`);
  }

  /** A write that succeeded goes where the shadow tables lead, without anybody's notice; an emulated one to `gpa`. */
  #write(vcpu: Vcpu, how: string, gva: bigint, gpa: bigint, value: bigint, bytes: number): void {
    const data = bytesOf(value, bytes);
    if (how === "emulate") {
      const slot = this.guest.vm.state.slots.visible(vcpu.state.space, gpa >> 12n);
      if (slot !== undefined && (slot.flags & 2) === 0) vcpu.emulatedWrite(gpa, data);
      return;
    }
    const space = this.judge.space(this.judge.rootOf(vcpu));
    const found = space.translate(gva, Write | Access.Probe);
    space.dispose?.();
    const hva = this.host.hvaOf(found.ok ? found.pa : 0n);
    // A user's write, where supervisors are kept out by SMAP, is not repeated.
    if (hva === undefined) return;
    const region = this.host.regions.find((one) => hva >= one.hva && hva < one.hva + (BigInt(one.pages) << 12n))!;
    this.guest.vm.state.core.internals.linear.u8.set(data, region.ram + Number(hva - region.hva));
  }

  /** The guest writes one entry of one of its tables through that table's window. */
  /** The other vCPU edits a table while the host looks a page up for a fault. */
  #editMeanwhile(b: number, c: number): void {
    const other = this.vcpus.find((vcpu) => vcpu !== this.#running)!;
    const running = this.#running;
    this.#edit(other, b, c);
    this.#running = running;
  }

  #edit(vcpu: Vcpu, b: number, c: number): void {
    const { guest } = this;
    if (this.tables.length === 0 || vcpu.inSmm) return;
    const at = b % this.tables.length;
    const { address, level } = this.tables[at]!;
    const entryAddress = guest.entryAddress(address, PROBES[(b >>> 4) % PROBES.length]!, level);
    const gva = windowOf(this.#mode) + (BigInt(at) << 12n) + (entryAddress & 0xfffn);
    // The windows are a user's pages: with SMAP only a user gets at them.
    const access = vcpu.registers.cr4 & SMAP ? Write | User : Write;
    const result = this.#access(vcpu, gva, access);
    if (result !== "ok" && result !== "emulate") throw new Error(`the window of table ${at} gives ${result}`);
    const entry = this.#entry(level, c);
    if (result === "ok")
      guest.vm.state.core.internals.linear.u8.set(bytesOf(entry, guest.entryBytes), guest.ram + Number(entryAddress));
    else vcpu.emulatedWrite(entryAddress, bytesOf(entry, guest.entryBytes));
  }

  #entry(level: number, c: number): bigint {
    const lower = this.tables.filter((table) => table.level === level - 1);
    const next = lower[(c >>> 8) % Math.max(lower.length, 1)];
    if (level > 1 && next !== undefined && c % 4 !== 0) return next.address | (FULL & ~0x40n);
    if (level === 2 && c % 8 === 0) return HIGH_SLOT | FULL | 0x80n;
    if (level > 1) return 0n;
    const targets = [
      DATA + (BigInt((c >>> 4) % 64) << 12n),
      this.tables[(c >>> 4) % this.tables.length]!.address,
      HIGH_SLOT + 0x3000n,
      READ_ONLY_GPA,
      MMIO_GPA,
      ...NEIGHBOURS.flatMap(({ gpa, pages }) => [gpa, gpa + (BigInt(pages - 1) << 12n)]),
    ];
    const flags = [FULL, FULL & ~2n, FULL & ~4n, FULL & ~0x20n, FULL & ~0x40n, 0n, FULL | NX, FULL | RESERVED];
    const chosen = flags[(c >>> 10) % flags.length]!;
    return targets[c % targets.length]! | (this.#mode === "32" ? chosen & 0xfffn : chosen);
  }

  dispose(): void {
    this.#guestMemory.dispose();
    this.judge.dispose();
    this.guest.dispose();
  }
}
