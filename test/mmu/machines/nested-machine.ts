/**
 * An L1 hypervisor with its nested guest, the VMM and the host around them. L2 reaches what L2's own tables, L1's second
 * stage, the memslots and the host allow, now or at some time since the last flush that L1 made: never more.
 */
import type { Kernel } from "../../../src/abi/kernel-rules.js";
import { Access, type AddressSpace, GeneralProtectionError, Status, type Translation } from "../../../src/index.js";
import type { FaultOutcome, SecondStage, Vcpu } from "../../../src/mmu/index.js";
import {
  bytesOf,
  core,
  Guest,
  HIGH_HVA,
  HIGH_PAGES,
  HIGH_SLOT,
  type Mode,
  RAM_HVA,
  RAM_PAGES,
  registersOf,
} from "../guest.js";
import { faultCode, sameResult } from "./direct-machine.js";
import { DirtyLogs } from "./dirty-truth.js";
import { Host } from "./host.js";
import { Judge, type Root } from "./judge.js";
import { onKernel } from "./kernels.js";
import type { MachineKind } from "./kinds.js";
import { addNeighbours } from "./neighbours.js";
import { DATA, L2_GPAS, L2_GVAS, L2_SHIFT, NestedTables, READ_ONLY_GPA, type SecondFormat } from "./nested-tables.js";
import { Tlbs } from "./tlb.js";

export interface NestedKind {
  readonly kernel: Kernel;
  readonly tdpMmu: boolean;
  /** L1's second stage; under NPT also L1's own paging mode. */
  readonly format: SecondFormat;
  readonly pse: boolean;
  /** L1's EPT has accessed and dirty bits. */
  readonly accessedDirty: boolean;
  readonly l2Mode: Mode;
  readonly manualDirtyLog: 0 | 1 | 3;
}

export type Step = readonly [kind: number, a: number, b: number, c: number];

const { Read, Write, Fetch, User, Probe } = Access;
const STAGE_ACCESSES = [Read, Write, Fetch] as const;
const ACCESSES = [Read, Write, Fetch, Read | User, Write | User, Fetch | User];
const PSE = 0x10n;
const WP = 0x10000n;
const PGE = 0x80n;
const NXE = 0x800n;
const PG = 0x8000_0000n;
const PAE = 0x20n;
const LMA = 0x400n;
const DIRTY_BIT = { shadow: 0x40n, npt: 0x40n, ept: 0x200n } as const;

type Pdptes = readonly [bigint, bigint, bigint, bigint];

/** What L2 finds: a page of L1's, its own #PF, or a fault of L1's second stage. */
type L2Result =
  | { readonly kind: "page"; readonly gpa: bigint }
  | { readonly kind: "#PF"; readonly code: number }
  | { readonly kind: "L1"; readonly address: bigint; readonly code: number; readonly info: bigint | undefined }
  | { readonly kind: "emulate" | "mmio" | "shutdown" };

export class NestedMachine {
  readonly guest: Guest;
  readonly host = new Host();
  readonly judge: Judge;
  readonly tables: NestedTables;
  readonly vcpus: readonly Vcpu[];
  /** By vCPU: L1's root that its L2 uses (last). */
  readonly #root = new Map<Vcpu, number>();
  /** By vCPU, root, address and access: gfns that a translation may lead to. */
  readonly #allowed = new Map<string, Set<bigint>>();
  /** vCPU and root whose tables were edited since the last flush. */
  readonly #stale = new Set<string>();
  /** By vCPU: the PDPTE registers of its L2. */
  readonly #latched = new Map<Vcpu, Pdptes>();
  readonly #logs: DirtyLogs;
  readonly #tlbs: Tlbs;
  readonly #guestMemory: ReturnType<ReturnType<typeof core>["createMemory"]>;
  #written = 1n;
  /** The vCPU whose fault was handled last. */
  #running: Vcpu | undefined;

  constructor(
    readonly machine: MachineKind,
    readonly kind: NestedKind,
  ) {
    const { tdpMmu, manualDirtyLog, kernel } = kind;
    this.guest = new Guest({ ...onKernel(machine.config, kernel), tdpMmu, manualDirtyLog, host: this.host });
    const { vm } = this.guest;
    this.judge = new Judge(vm, this.host, machine.format);
    this.#tlbs = new Tlbs(vm, this.host);
    this.host.onCopy = (start, end) => vm.unmapRange(start, end);
    this.#logs = new DirtyLogs(vm, manualDirtyLog);
    const ram = vm.createRam(0x4000);
    const hva = 0x7f80_0000_0000n;
    this.host.add({ hva, ram, pages: 4, level: 1 });
    vm.setSlot({ id: 5, gpa: READ_ONLY_GPA, size: 0x4000, ram, hva, readOnly: true });
    addNeighbours(vm, this.host);
    this.#guestMemory = core().createMemory({
      slots: [
        { gpa: 0n, size: RAM_PAGES * 4096, linear: this.guest.ram },
        { gpa: HIGH_SLOT, size: HIGH_PAGES * 4096, linear: this.guest.high },
        { gpa: READ_ONLY_GPA, size: 0x4000, linear: ram },
      ],
    });
    this.tables = new NestedTables(this.guest, kind.format, kind.pse, kind.l2Mode);
    this.vcpus = [vm.createVcpu(this.#l1Registers), vm.createVcpu(this.#l1Registers)];
    this.guest.vcpu = this.vcpus[0]!;
    for (const vcpu of this.vcpus) this.#root.set(vcpu, 0);
  }

  get #l1Registers() {
    const { format, pse } = this.kind;
    const registers = registersOf(format === "ept4" || format === "ept5" ? "4level" : format, 0n);
    return pse ? registers : { ...registers, cr4: registers.cr4 & ~PSE };
  }

  #stage(root: number): SecondStage {
    const address = this.tables.roots[root]!;
    if (this.tables.isEpt) {
      const { accessedDirty } = this.kind;
      const length = BigInt(this.tables.levels - 1) << 3n;
      const eptp = address | 6n | length | (accessedDirty ? 0x40n : 0n);
      return { kind: "ept", eptp, executeOnly: true, hugePageLevel: 3, accessedDirty };
    }
    const { cr4, efer } = this.#l1Registers;
    return { kind: "npt", ncr3: address, hostCr4: cr4, hostEfer: efer };
  }

  #l2Registers(b: number) {
    const { l2Roots } = this.tables;
    return registersOf(this.kind.l2Mode, l2Roots[b % Math.max(l2Roots.length, 1)] ?? 0n);
  }

  // ---------------------------------------------------------------- what L1's and L2's tables say

  #stageSpace(root: number): AddressSpace {
    const stage = this.#stage(root);
    const { physBits: maxPhysAddr } = this.judge.format;
    const rules = "kvm-6.1" as const;
    if (stage.kind === "ept") return core().createEpt(this.#guestMemory, { eptp: stage.eptp, maxPhysAddr, rules });
    const { ncr3, hostCr4, hostEfer } = stage;
    return core().createNpt(this.#guestMemory, { ncr3, cr4: hostCr4, efer: hostEfer, maxPhysAddr, rules });
  }

  #own(space: AddressSpace, gpa: bigint, access: number): bigint | undefined {
    const found = space.translate(gpa, access | User | Probe);
    return found.ok ? this.#visible(found.pa >> 12n, access) : undefined;
  }

  #visible(gfn: bigint, access: number): bigint | undefined {
    const slot = this.guest.vm.state.slots.visible(0, gfn);
    return slot === undefined || (access & Write && slot.flags & 2) ? undefined : gfn;
  }

  /** L2's walk through its own tables and L1's. */
  #twoDimensional(vcpu: Vcpu, gva: bigint, access: number, rules: "architecture" | "kvm-6.1"): Translation {
    const second = this.#stageSpace(this.#root.get(vcpu)!);
    const { cr0, cr3, cr4, efer } = vcpu.registers;
    const config = { cr0, cr3, cr4, efer, maxPhysAddr: this.judge.format.physBits, rules };
    const space = core().createAddressSpace(this.#guestMemory, {
      ...config,
      ...this.#pdptes(vcpu),
      secondStage: second,
    });
    const found = space.translate(gva, access | Probe);
    space.dispose();
    second.dispose?.();
    return found;
  }

  /** SVM reads PDPTEs in each walk (APM, "Nested Paging"), VMX latches them (SDM, "PDPTE Registers"). */
  #pdptes(vcpu: Vcpu): { pdptes: "live" } | { pdpteValues: Pdptes } {
    return this.tables.isEpt ? { pdpteValues: this.#latched.get(vcpu) ?? [0n, 0n, 0n, 0n] } : { pdptes: "live" };
  }

  #latches(vcpu: Vcpu): boolean {
    const { cr0, cr4, efer } = vcpu.registers;
    return this.tables.isEpt && (cr0 & PG) !== 0n && (cr4 & PAE) !== 0n && (efer & LMA) === 0n;
  }

  /** The page-directory pointers at an address of L1's. */
  #tableAt(gpa: bigint): Pdptes {
    const bytes = this.guest.vm.readGuest(gpa, 32)!;
    return [...new BigUint64Array(bytes.slice().buffer)] as unknown as Pdptes;
  }

  // ---------------------------------------------------------------- what the built tables say

  #rootOf(vcpu: Vcpu): Root {
    const nestedAd = vcpu.inGuestMode && this.tables.isEpt ? this.kind.accessedDirty : true;
    return this.judge.rootOf(vcpu, this.machine.accessedDirty && nestedAd);
  }

  #key(vcpu: Vcpu, root: number, gpa: bigint, access: number): string {
    return `${vcpu.id} ${root} ${gpa} ${access}`;
  }

  #record(): void {
    this.tables.roots.forEach((_, root) => {
      const space = this.#stageSpace(root);
      for (const gpa of this.#probes()) {
        for (const access of STAGE_ACCESSES) {
          const gfn = this.#own(space, gpa, access);
          for (const vcpu of this.vcpus) {
            const key = this.#key(vcpu, root, gpa, access);
            const set = this.#allowed.get(key) ?? new Set();
            this.#allowed.set(key, set);
            if (gfn !== undefined) set.add(gfn);
          }
        }
      }
      space.dispose?.();
    });
  }

  #probes(): bigint[] {
    return [...L2_GPAS, ...this.tables.l2Tables.map(({ address }) => address)];
  }

  /** L1 has flushed what this vCPU may hold of a root: only what is so now may be found from here on. */
  #flush(vcpu: Vcpu, root: number): void {
    this.#tlbs.flush(vcpu);
    for (const gpa of this.#probes()) {
      for (const access of STAGE_ACCESSES) this.#allowed.delete(this.#key(vcpu, root, gpa, access));
    }
    this.#stale.delete(`${vcpu.id} ${root}`);
  }

  /** Looks at every probe through the tables that each vCPU uses now. */
  check(withReference: boolean): void {
    this.#record();
    for (const vcpu of this.vcpus) {
      if (!vcpu.enterGuest()) throw new Error("no root can be loaded");
      const root = this.#rootOf(vcpu);
      const space = this.judge.space(root);
      const second = withReference ? this.judge.referenceSpace(root) : undefined;
      for (const gpa of vcpu.inGuestMode ? this.#probes() : [DATA, DATA + 0x1000n, HIGH_SLOT, this.tables.roots[0]!]) {
        this.judge.checkEncryption(space, gpa);
        for (const access of STAGE_ACCESSES) {
          const found = space.translate(gpa, access | User | Probe);
          this.#checkFound(vcpu, gpa, access, found);
          if (second !== undefined) sameResult(found, second.translate(gpa, access | User | Probe), gpa);
        }
        this.#checkLogged(vcpu, space, gpa);
      }
      space.dispose?.();
    }
    this.#tlbs.check();
  }

  /** Returns the page of L1's that a successful translation leads to. */
  #checkFound(vcpu: Vcpu, gpa: bigint, access: number, found: Translation): bigint | undefined {
    if (!found.ok) return undefined;
    const where = vcpu.inGuestMode ? `L2, root ${this.#root.get(vcpu)}` : "L1";
    const what = `vCPU ${vcpu.id} (${where}): access ${access} to ${gpa.toString(16)}`;
    const hva = this.host.hvaOf(found.pa);
    if (hva === undefined) throw new Error(`${what} leads to ${found.pa.toString(16)}, which is not the host's now`);
    const allowed = vcpu.inGuestMode
      ? [...(this.#allowed.get(this.#key(vcpu, this.#root.get(vcpu)!, gpa & ~0xfffn, access)) ?? [])]
      : [this.#visible(gpa >> 12n, access)];
    const gfn = allowed.find((one) => one !== undefined && this.#hva(one) === (hva & ~0xfffn));
    if (gfn === undefined) {
      throw new Error(
        `${what} leads to ${hva.toString(16)}, allowed: ${allowed.map((one) => one?.toString(16)).join()}`,
      );
    }
    if (access === Write && this.host.isShared(hva)) throw new Error(`${what} may write a shared page`);
    if (access === Fetch && this.machine.nxHugePages && found.pageSize > 4096) {
      throw new Error(`${what} runs in a huge page`);
    }
    return (gfn << 12n) | (gpa & 0xfffn);
  }

  #hva(gfn: bigint): bigint | undefined {
    const slot = this.guest.vm.state.slots.visible(0, gfn);
    return slot === undefined ? undefined : slot.hva + ((gfn - slot.base) << 12n);
  }

  /** A page that can be written without an exit is in the log, unless the processor's own log will tell. */
  #checkLogged(vcpu: Vcpu, space: AddressSpace, gpa: bigint): void {
    const { result, steps } = space.walk(gpa, Write | User);
    if (!result.ok) return;
    const hva = this.host.hvaOf(result.pa)!;
    const slot = this.guest.vm.state.slots.slots.find(
      (one) => hva >= one.hva && hva < one.hva + (BigInt(one.pages) << 12n) && one.core.hasLog,
    );
    if (slot === undefined || this.#logsItself(vcpu, steps.at(-1)!.entry)) return;
    const page = Number((hva - slot.hva) >> 12n);
    if (!slot.core.isDirty(page)) {
      throw new Error(
        `${gpa.toString(16)} can be written unnoticed; page ${page} of slot ${slot.id} is not in the log`,
      );
    }
  }

  /** The processor logs L1's writes through entries whose D bit is clear; L2 runs without that. */
  #logsItself(vcpu: Vcpu, spte: bigint): boolean {
    const { pageModificationLog, format } = this.machine;
    return pageModificationLog && !vcpu.inGuestMode && (spte & DIRTY_BIT[format.kind]) === 0n;
  }

  // ---------------------------------------------------------------- accesses

  /** A guest-physical access of what runs, final or to a table: the page of L1's, or how the fault ended. */
  #touch(vcpu: Vcpu, gpa: bigint, access: number): bigint | FaultOutcome {
    for (let tries = 0; tries < 12; tries++) {
      vcpu.enterGuest();
      const space = this.judge.space(this.#rootOf(vcpu));
      const before = space.walk(gpa, access | User).steps.at(-1)?.entry ?? 0n;
      const found = space.translate(gpa, access | User);
      space.dispose?.();
      if (found.ok) {
        const at = this.#checkFound(vcpu, gpa, access, found)!;
        this.#tlbs.keep(vcpu, gpa, access, found.pa);
        if (access === Write && this.#logsItself(vcpu, before)) this.guest.vm.markDirty(at >> 12n);
        return at;
      }
      this.#running = vcpu;
      const outcome = vcpu.pageFault(gpa, faultCode(found));
      if (!["fixed", "spurious", "retry"].includes(outcome.result)) return outcome;
    }
    throw new Error(`access ${access} to ${gpa.toString(16)} never ends`);
  }

  /** L2 accesses a linear address: the processor walks its tables through the shadow of L1's second stage. */
  #accessL2(vcpu: Vcpu, gva: bigint, access: number): L2Result {
    for (let tries = 0; tries < 24; tries++) {
      if (!vcpu.enterGuest()) return { kind: "shutdown" };
      const found = this.#hardware(vcpu, gva, access);
      if (found.ok) return { kind: "page", gpa: this.#checkFound(vcpu, found.gpa, access & ~User, found)! };
      if (found.stage === "guest") return { kind: "#PF", code: Number(found.errorCode) };
      const table = (found.errorCode & (1n << 33n)) !== 0n;
      this.#running = vcpu;
      const outcome = vcpu.pageFault(found.address, faultCode(found), { guestTable: table });
      if (outcome.result === "inject") {
        return { kind: "L1", address: outcome.address, code: outcome.errorCode, info: outcome.exitInfo };
      }
      if (outcome.result === "emulate" || outcome.result === "mmio") return { kind: outcome.result };
    }
    throw new Error(`L2's access ${access} to ${gva.toString(16)} never ends`);
  }

  #hardware(vcpu: Vcpu, gva: bigint, access: number): Translation {
    const second = this.judge.space(this.#rootOf(vcpu));
    const { cr0, cr3, cr4, efer } = vcpu.registers;
    const config = { cr0, cr3, cr4, efer, maxPhysAddr: this.judge.format.physBits };
    const space = core().createAddressSpace(this.judge.lastMemory, {
      ...config,
      ...this.#pdptes(vcpu),
      secondStage: second,
    });
    const found = space.translate(gva, access);
    space.dispose();
    second.dispose?.();
    return found;
  }

  /** What runs writes at a page of L1's, as the processor (nobody notices) or by emulation. */
  #write(vcpu: Vcpu, gpa: bigint, data: Uint8Array, emulated: boolean): void {
    const slot = this.guest.vm.state.slots.visible(0, gpa >> 12n);
    if (slot === undefined || slot.flags & 2) return;
    if (emulated) vcpu.emulatedWrite(gpa, data);
    else {
      if (this.tables.tables.some(({ address }) => address >> 12n === gpa >> 12n)) this.#stales();
      this.guest.vm.state.core.internals.linear.u8.set(data, slot.ram + Number(gpa - (slot.base << 12n)));
    }
  }

  // ---------------------------------------------------------------- what happens

  step([kind, a, b, c]: Step): void {
    const vcpu = this.vcpus[a % 2]!;
    const what = kind % 32;
    if (what < 8) {
      if (vcpu.inGuestMode) this.#runL2(vcpu, L2_GVAS[b % L2_GVAS.length]!, ACCESSES[c % ACCESSES.length]!);
      else this.#runL1(vcpu, b, STAGE_ACCESSES[c % 3]!);
    } else if (what < 13) this.#editL1(vcpu, b, c);
    else if (what < 15) this.#editL2(vcpu, b, c);
    else if (what < 20) this.#switch(vcpu, b, c);
    else if (what < 22) this.#writeRegister(vcpu, b, c);
    else if (what === 22) this.#invalidate(vcpu, b);
    else if (what === 23) this.#walk(vcpu, b, c);
    else if (what < 28) this.#changeMemory(what, b, c);
    else this.#changeHost(what, b, c);
  }

  #runL1(vcpu: Vcpu, b: number, access: number): void {
    const targets = [DATA + (BigInt((b >>> 4) % 48) << 12n), HIGH_SLOT + (BigInt((b >>> 4) % HIGH_PAGES) << 12n)];
    const gpa = targets[b % 2]!;
    const at = this.#touch(vcpu, gpa, access);
    if (access !== Write) return;
    const emulated = typeof at !== "bigint";
    if (!emulated || at.result === "emulate") this.#write(vcpu, gpa, bytesOf(this.#written++, 8), emulated);
  }

  #runL2(vcpu: Vcpu, gva: bigint, access: number): void {
    const found = this.#accessL2(vcpu, this.#linear(vcpu, gva), access);
    const stale = this.#stale.has(`${vcpu.id} ${this.#root.get(vcpu)}`);
    // L2's own page faults are the processor's, without an exit.
    const own = this.#twoDimensional(vcpu, this.#linear(vcpu, gva), access, "architecture");
    if (!stale) this.#compare(gva, access, found, own);
    if ((access & Write) === 0) return;
    if (found.kind === "page") this.#write(vcpu, found.gpa, bytesOf(this.#written++, 8), false);
    if (found.kind !== "emulate") return;
    const walk = vcpu.walk(this.#linear(vcpu, gva), (access & User ? 4 : 0) | 2);
    if (walk.ok) this.#write(vcpu, walk.gpa, bytesOf(this.#written++, 8), true);
  }

  /** L2's tables lead from linear addresses; without paging they are its physical ones. */
  #linear(vcpu: Vcpu, gva: bigint): bigint {
    return vcpu.registers.cr0 >> 31n ? gva : L2_GPAS[L2_GVAS.indexOf(gva)]!;
  }

  #compare(gva: bigint, access: number, found: L2Result, own: Translation): void {
    const fail = (wanted: string) => {
      const shown = Object.entries(found).map(([name, value]) => `${name} ${value?.toString(16)}`);
      throw new Error(`L2's access ${access} to ${gva.toString(16)}: ${shown.join(", ")}; expected ${wanted}`);
    };
    if (own.ok) {
      const slot = this.guest.vm.state.slots.visible(0, own.pa >> 12n);
      const kinds = slot === undefined ? ["mmio", "emulate"] : ["page", "emulate"];
      if (!kinds.includes(found.kind)) fail(`${kinds.join(" or ")} at ${own.pa.toString(16)}`);
      if (found.kind === "page" && found.gpa >> 12n !== own.pa >> 12n) fail(own.pa.toString(16));
      if (found.kind === "page" && access & Write && slot!.flags & 2) fail("emulate");
    } else if (own.stage === "guest") {
      // Software may meet the reason to emulate first, in a table that it must not write.
      if (found.kind === "emulate") return;
      if (found.kind !== "#PF" || found.code !== Number(own.errorCode)) fail(`#PF ${own.errorCode.toString(16)}`);
    } else if (found.kind !== "L1" || found.address >> 12n !== own.address >> 12n) {
      if (found.kind !== "emulate") fail(`L1's fault at ${own.address.toString(16)}`);
    } else {
      const onTable = own.errorCode & (1n << 33n) || (this.tables.isEpt && !(own.errorCode & 0x100n));
      // The kernel asks for tables as a user's write, whether or not the processor does.
      // A nested EPT's walk names no fetch, as its context has neither NXE nor SMEP (walk_addr_generic). Where L1's entries
      // are present and together grant nothing, an EPT violation does not say that they are present.
      const unsaid = this.tables.isEpt && (own.errorCode & 0x38n) === 0n ? 1 : 0;
      const mask = (onTable ? 9 : this.tables.isEpt ? 0xf : 0x1f) & ~unsaid;
      const wanted = stageCode(own, access & ~User);
      if ((found.code & mask) !== (wanted & mask)) fail(`L1's fault with error code ${wanted.toString(16)}`);
      // What L1 sees of its exit is what a processor gives it, whole; of a table's access the kernel claims more.
      const info = own.status === Status.EptMisconfiguration ? undefined : own.errorCode;
      if (!onTable && found.info !== info) fail(`L1's exit with ${info?.toString(16)}`);
    }
  }

  /** L1 writes an entry of its second stage; any vCPU that is in L1 does. */
  #editL1(vcpu: Vcpu, b: number, c: number): void {
    if (vcpu.inGuestMode) return;
    const { at, entry } = this.tables.edit(b, c);
    const found = this.#touch(vcpu, at, Write);
    const emulated = typeof found !== "bigint";
    if (emulated && found.result !== "emulate")
      throw new Error(`L1's write of ${at.toString(16)} ends as ${found.result}`);
    this.#write(vcpu, at, bytesOf(entry, this.tables.entryBytes), emulated);
    this.#stales();
  }

  /** L1's second stage was written, whoever did it: until it flushes, what was there may still be used. */
  #stales(): void {
    for (const one of this.vcpus) for (const root of this.tables.roots.keys()) this.#stale.add(`${one.id} ${root}`);
  }

  /** The other vCPU edits L1's second stage while the host looks a page up for a fault. */
  #editMeanwhile(b: number, c: number): void {
    const running = this.#running;
    this.#editL1(this.vcpus.find((vcpu) => vcpu !== running)!, b, c);
    // The fault that waits may already find what is written now.
    this.#record();
    this.#running = running;
  }

  /** L2 writes an entry of its own tables, wherever L1 has put them. */
  #editL2(vcpu: Vcpu, b: number, c: number): void {
    const edit = this.tables.editL2(b, c);
    if (!vcpu.inGuestMode || edit === undefined) return;
    const found = this.#touch(vcpu, edit.at, Write);
    if (typeof found === "bigint") this.#write(vcpu, found, bytesOf(edit.entry, edit.bytes), false);
    else if (found.result === "emulate") {
      const space = this.#stageSpace(this.#root.get(vcpu)!);
      const own = space.translate(edit.at, Write | User | Probe);
      space.dispose?.();
      if (own.ok) this.#write(vcpu, own.pa, bytesOf(edit.entry, edit.bytes), true);
    }
  }

  #switch(vcpu: Vcpu, b: number, c: number): void {
    if (vcpu.inGuestMode) {
      vcpu.exitNested(this.#l1Registers);
      return;
    }
    const root = b % this.tables.roots.length;
    this.#root.set(vcpu, root);
    const stage = this.#stage(root);
    // L1 writes the VMCS's PDPTE fields for another root, or leaves them as they are.
    const { l2Roots } = this.tables;
    const writes = stage.kind === "ept" && this.kind.l2Mode === "pae" && (c % 3 === 0 || !this.#latched.has(vcpu));
    if (writes) this.#latched.set(vcpu, this.#tableAt(l2Roots[(c >>> 4) % l2Roots.length]! - L2_SHIFT));
    vcpu.enterNested(this.#l2Registers(c), writes ? { ...stage, pdptes: this.#latched.get(vcpu)! } : stage);
    // VMRUN flushes, as KVM has no way to tell (nested_svm_transition_tlb_flush); VMX keeps what INVEPT does not drop.
    if (!this.tables.isEpt) this.#flush(vcpu, root);
  }

  #writeRegister(vcpu: Vcpu, b: number, c: number): void {
    const { cr0, cr4, efer } = vcpu.registers;
    const { l2Roots } = this.tables;
    if (b % 4 === 0 && l2Roots.length > 0 && vcpu.inGuestMode) {
      this.#moveCr3(vcpu, l2Roots[c % l2Roots.length]!);
    } else if (b % 4 === 1 && this.kind.l2Mode !== "nopg" && vcpu.inGuestMode) {
      vcpu.writeCr0(cr0 ^ WP);
    } else if (b % 4 === 2) this.#writeCr4(vcpu, cr4 ^ PGE);
    else if (vcpu.inGuestMode) vcpu.writeEfer(efer ^ NXE);
  }

  /** L2's MOV to CR3, which does not exit. The processor loads a PAE guest's PDPTEs through the second stage. */
  #moveCr3(vcpu: Vcpu, cr3: bigint): void {
    if (this.#latches(vcpu)) {
      const at = this.#touch(vcpu, cr3, Read);
      const second = this.#stageSpace(this.#root.get(vcpu)!);
      const own = second.translate(cr3, Write | User | Probe);
      second.dispose?.();
      // Where the processor's translation is an old one, software could not know what it loads.
      if (typeof at !== "bigint" || !own.ok || own.pa !== at) return;
      this.#latched.set(vcpu, this.#tableAt(at));
    }
    vcpu.setGuestRegisters({ cr3 });
  }

  /** Exits, and reloads a PAE guest's PDPTEs by software. */
  #writeCr4(vcpu: Vcpu, cr4: bigint): void {
    try {
      vcpu.writeCr4(cr4);
    } catch (error) {
      // L1 maps nothing there.
      if (error instanceof GeneralProtectionError) return;
      throw error;
    }
    if (!vcpu.inGuestMode || !this.#latches(vcpu)) return;
    const second = this.#stageSpace(this.#root.get(vcpu)!);
    const own = second.translate(vcpu.registers.cr3, Write | User | Probe);
    second.dispose?.();
    if (own.ok) this.#latched.set(vcpu, this.#tableAt(own.pa));
  }

  /** What L1 or L2 flushes. Only INVEPT is about L1's second stage; the others do nothing to tables without linear addresses. */
  #invalidate(vcpu: Vcpu, b: number): void {
    if (b % 4 === 0) vcpu.invlpg(L2_GVAS[b % L2_GVAS.length]!);
    else if (b % 4 === 1) vcpu.invpcid(b % 3 === 0 ? 0 : 2, 0, L2_GVAS[0]!);
    else if (this.tables.isEpt && !vcpu.inGuestMode) {
      const root = (b >>> 4) % this.tables.roots.length;
      const stage = this.#stage(root);
      if (b % 4 === 2 && stage.kind === "ept") {
        if (!vcpu.invept(stage.eptp)) throw new Error(`INVEPT of ${stage.eptp.toString(16)} fails`);
        this.#flush(vcpu, root);
      } else {
        if (b & 8) vcpu.invept("all");
        else vcpu.releaseNested();
        this.tables.roots.forEach((_, one) => {
          this.#flush(vcpu, one);
        });
      }
    }
  }

  /** Software walks L2's tables, as it does to emulate an instruction: it finds what the processor would. */
  #walk(vcpu: Vcpu, b: number, c: number): void {
    if (!vcpu.inGuestMode) return;
    vcpu.enterGuest();
    const gva = this.#linear(vcpu, L2_GVAS[b % L2_GVAS.length]!);
    const access = ACCESSES[c % ACCESSES.length]!;
    const own = this.#twoDimensional(vcpu, gva, access, "kvm-6.1");
    const code = (access & User ? 4 : 0) | (access & Write ? 2 : 0) | (access & Fetch ? 16 : 0);
    const found = vcpu.walk(gva, code);
    if (found.ok !== own.ok && !this.#walksDiffer(own))
      throw new Error(`a walk of ${gva.toString(16)} gives ${found.ok}`);
    if (found.ok && own.ok && found.gpa !== own.pa) {
      throw new Error(`a walk of ${gva.toString(16)} gives ${found.gpa.toString(16)}, not ${own.pa.toString(16)}`);
    }
    if (!found.ok && !own.ok && !this.#walksDiffer(own) && found.nested !== (own.stage === "second")) {
      throw new Error(`a walk of ${gva.toString(16)} blames the other stage`);
    }
  }

  /**
   * Under EPT without A/D the processor only reads tables, where the kernel's walk asks for the right to write; and it asks
   * for the final page as L2's supervisor, where NPT knows only users.
   */
  #walksDiffer(_own: Translation): boolean {
    return this.tables.isEpt ? !this.kind.accessedDirty : true;
  }

  /** What the VMM does. */
  #changeMemory(what: number, b: number, c: number): void {
    const { vm, high, ram } = this.guest;
    const exists = vm.state.slots.find(0, 1) !== undefined;
    const highSlot = { id: 1, gpa: HIGH_SLOT, ram: high, hva: HIGH_HVA, size: HIGH_PAGES * 4096 };
    if (what === 24 && b % 2 === 0) {
      vm.setSlot({ id: 0, gpa: 0n, size: RAM_PAGES * 4096, ram, hva: RAM_HVA, logDirty: c % 2 === 0 });
      this.#logs.set(0, c % 2 === 0);
    } else if (what === 24 || (what === 25 && b % 2 === 0)) {
      const deletes = what === 25 && exists;
      const logs = what === 24 && c % 2 === 0;
      if (what === 24 && !exists) return;
      vm.setSlot({ ...highSlot, logDirty: logs, size: deletes ? 0 : highSlot.size });
      this.#logs.set(1, logs);
    } else if (what === 26) this.#logs.collect(b % 2 === 0 ? 0 : 1, c);
    else if (what === 27 && b % 4 === 0) vm.setPageLimit(64 + (c % 8));
    else vm.recoverHugePages(c % 4);
  }

  /** What the host does with its pages. */
  #changeHost(what: number, b: number, c: number): void {
    const { vm } = this.guest;
    const tables = this.tables.tables[b % this.tables.tables.length]!.address;
    const at = [HIGH_HVA + (BigInt(b % HIGH_PAGES) << 12n), RAM_HVA + DATA + (BigInt(b % 64) << 12n), RAM_HVA + tables][
      c % 3
    ]!;
    const unmap = () => vm.unmapRange(...this.host.move(at, at + (BigInt((b >>> 4) % 4) << 12n) + 1n));
    if (what === 28) unmap();
    else if (what === 29) this.host.interrupt = b % 2 === 0 ? unmap : () => this.#editMeanwhile(b >>> 3, c);
    else if (what === 30 && b % 3 === 0) vm.unmapRange(...this.host.resize(at));
    else if (what === 30) vm.changePage(at, this.host.share(at));
    else (b % 2 ? vm.age : vm.testAge).call(vm, at, at + 0x8000n);
  }

  dispose(): void {
    this.#guestMemory.dispose();
    this.judge.dispose();
    this.guest.dispose();
  }
}

/** What the kernel tells L1 of a fault of L1's second stage: P, W, U, RSVD, I. */
function stageCode(own: Translation & { ok: false }, access: number): number {
  const code = faultCode(own);
  // A misconfiguration is reported as a present entry with a reserved bit, with the access.
  if (code !== 8) return code;
  return 9 | (access & Write ? 2 : 0) | (access & Fetch ? 16 : 0) | (access & (Write | Fetch) ? 0 : 4);
}
