/**
 * A VM whose memory lies as a PC's does: several slots in one block of 2 MiB or 1 GiB, ends inside blocks, windows on the
 * same host memory, slots up to the last address. Whatever happens, every page that the tables map leads to the host's page
 * with the rights that there are; an operation takes no more away than it has to, and flushes what it takes and nothing else.
 */
import type { Kernel } from "../../../src/abi/kernel-rules.js";
import { Access as Flag, Status } from "../../../src/index.js";
import { type Vcpu, VirtualMachine } from "../../../src/mmu/index.js";
import type { Memslot } from "../../../src/mmu/memory/memslots.js";
import { core } from "../guest.js";
import { ACCESSES, faultCode } from "./direct-machine.js";
import { DirtyLogs } from "./dirty-truth.js";
import { hooks } from "./hooks.js";
import { Host } from "./host.js";
import { Judge } from "./judge.js";
import { onKernel } from "./kernels.js";
import type { MachineKind } from "./kinds.js";
import { anyGone, LeafMap, SPACE, uncovered } from "./leaf-map.js";

const UNPAGED = { cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n };
const HVA = 0x7f40_0000_0000n;
/** The host's memory: four large pages. */
const PAGES = 2048;
const LARGE_MASK = ~511n;

/** A slot: first gfn, pages, first page of the host's memory behind it. */
type Window = readonly [gfn: number, pages: number, at: number, readOnly?: boolean];

/** `last`: the last gfn that the tables reach. */
export const LAYOUTS: readonly ((last: number) => readonly Window[])[] = [
  // Low memory, ROM below 1 MiB, memory that ends inside a block, its neighbour in the same block, and one over 1 GiB.
  () => [
    [0, 160, 0],
    [0xc0, 64, 0xc0, true],
    [0x100, 512, 0x100],
    [0x300, 300, 0x300],
    [0x3ffff, 513, 0x5ff],
  ],
  // The same host memory at several places, in step with large pages and not.
  () => [
    [0, 1024, 0],
    [0x400, 600, 0],
    [0x800, 512, 1],
    [0xa00, 511, 0, true],
    [0xe00, 513, 512],
  ],
  // Both ends of what can be reached, and of 4 GiB.
  (last) => {
    const around: readonly Window[] = [
      [0xf_fe00, 512, 512],
      [0x10_0000, 3, 1024],
    ];
    return [[0, 1, 2047], [1, 511, 1], ...(last > 0x20_0000 ? around : []), [last - 511, 512, 1024]];
  },
];

export interface LayoutKind {
  readonly kernel: Kernel;
  readonly tdpMmu: boolean;
  readonly layout: number;
  readonly manualDirtyLog: 0 | 1 | 3;
  readonly rangedFlush: boolean;
  readonly maxHugeLevel: 1 | 2 | 3;
  readonly mmioCaching: boolean;
}

export type Step = readonly [kind: number, a: number, b: number];

export class LayoutMachine {
  readonly vm: VirtualMachine;
  readonly host = new Host();
  readonly judge: Judge;
  readonly vcpus: readonly Vcpu[];
  readonly windows: readonly Window[];
  readonly #ram: number;
  readonly #logs: DirtyLogs;
  /** The last gfn that the tables reach. */
  readonly #last: number;
  #leaves: LeafMap;
  #written = 1n;

  constructor(
    readonly machine: MachineKind,
    readonly kind: LayoutKind,
  ) {
    const { tdpMmu, manualDirtyLog, rangedFlush, maxHugeLevel, mmioCaching } = kind;
    const options = { tdpMmu, manualDirtyLog, rangedFlush, maxHugeLevel, mmioCaching };
    this.vm = new VirtualMachine(core(), {
      eventCapacity: hooks.eventCapacity,
      ...onKernel(machine.config, kind.kernel),
      ...options,
      hostMemory: this.host,
    });
    const width =
      machine.level === 3 ? 32 : Math.min(12 + 9 * machine.level, this.vm.state.slots.maxGfn.toString(2).length + 12);
    this.#last = 2 ** (width - 12) - 1;
    this.windows = LAYOUTS[kind.layout]!(this.#last);
    this.judge = new Judge(this.vm, this.host, machine.format);
    this.#logs = new DirtyLogs(this.vm, manualDirtyLog);
    this.host.onCopy = (start, end) => this.vm.unmapRange(start, end);
    this.#ram = this.vm.createRam(PAGES * 4096);
    this.host.add({ hva: HVA, ram: this.#ram, pages: PAGES, level: 2 });
    for (const id of this.windows.keys()) this.#set(id);
    this.vcpus = [this.vm.createVcpu(UNPAGED), this.vm.createVcpu(UNPAGED)];
    for (const vcpu of this.vcpus) vcpu.enterGuest();
    this.vm.takeFlushes();
    this.#leaves = new LeafMap(this.vm);
  }

  #set(id: number, change: { logDirty?: boolean; size?: number; moved?: boolean } = {}): void {
    const [gfn, pages, at, readOnly = false] = this.windows[id]!;
    const { logDirty = false, size = pages * 4096 } = change;
    const gpa = BigInt(gfn) << 12n;
    this.vm.setSlot({ id, gpa, size, ram: this.#ram + at * 4096, hva: HVA + (BigInt(at) << 12n), readOnly, logDirty });
    if (id < 2) this.#logs.set(id, logDirty && size !== 0);
  }

  // ---------------------------------------------------------------- what must hold

  check(thorough: boolean): void {
    for (const [page, { frame, writable, level }] of this.#leaves.pages) {
      const gfn = BigInt(page % SPACE);
      const slot = this.vm.state.slots.visible(0, gfn);
      const what = `gfn ${gfn.toString(16)} (level ${level})`;
      if (slot === undefined) throw new Error(`${what} is mapped, where no slot is`);
      const hva = hvaOf(slot, gfn);
      if (this.host.frame(hva) !== BigInt(frame)) throw new Error(`${what} leads to frame ${frame.toString(16)}`);
      if (level > 1 && this.host.level(hva) === 1) throw new Error(`${what} is larger than the host's page`);
      if (!writable) continue;
      if (slot.flags & 2) throw new Error(`${what} is writable in a read-only slot`);
      if (this.host.isShared(hva)) throw new Error(`${what} is writable though shared`);
      if (thorough && !this.machine.pageModificationLog) this.#checkLogged(slot, gfn);
    }
  }

  #checkLogged(slot: Memslot, gfn: bigint): void {
    if (!slot.core.hasLog) return;
    const page = Number(gfn - slot.base);
    if (!slot.core.isDirty(page)) {
      throw new Error(`gfn ${gfn.toString(16)} can be written unnoticed and is not in the dirty log`);
    }
  }

  /**
   * Does `act`; of the pages mapped before only those that `may` lose something do (its huge pages whole), whatever they lose
   * is flushed, and where no leaf goes nothing is flushed, unless `flushes` says that it may be: where tables go, whose
   * entries processors cache too, and where the operation's end shows not all that happened.
   */
  #watch(act: () => void, may: (gfn: bigint) => boolean, { flushes = false, ages = false, at = -1n } = {}): void {
    const before = this.#leaves;
    const count = this.vm.counter("FLUSHES");
    act();
    this.#leaves = new LeafMap(this.vm);
    const lost = this.#leaves.lostSince(before);
    const pending = this.vm.takeFlushes();
    const missed = uncovered(lost, pending);
    // The host that only asks how old a page is need not have it flushed (kvm_mmu_notifier_clear_young).
    if (missed !== undefined && !ages)
      throw new Error(`page ${missed.toString(16)} lost rights and no flush covers it`);
    if (ages && anyGone(before, this.#leaves)) throw new Error("ageing took a page away");
    for (const page of ages ? [] : lost) {
      const gfn = BigInt(page % SPACE);
      const huge = before.pages.get(page)!.level > 1;
      const parts = huge ? Array.from({ length: 512 }, (_, i) => (gfn & LARGE_MASK) + BigInt(i)) : [gfn];
      if (!parts.some(may)) throw new Error(`gfn ${gfn.toString(16)} lost its mapping for nothing`);
    }
    const flushed = this.vm.counter("FLUSHES") !== count || pending === "all" || pending.length > 0;
    // A huge page takes the place of a table.
    const enlarged = (this.#leaves.pages.get(Number(at))?.level ?? 1) > (before.pages.get(Number(at))?.level ?? 1);
    if (flushed && lost.length === 0 && !flushes && !enlarged && !anyGone(before, this.#leaves))
      throw new Error("a flush for nothing");
  }

  /** gfns whose host page lies in the range. */
  #behind([start, end]: readonly [bigint, bigint]): (gfn: bigint) => boolean {
    return (gfn) => {
      const slot = this.vm.state.slots.visible(0, gfn);
      if (slot === undefined) return false;
      const hva = hvaOf(slot, gfn);
      return hva >= start && hva < end;
    };
  }

  // ---------------------------------------------------------------- what happens

  /** An address at or around the end of a slot or of what can be reached, or anywhere in a slot. */
  #gpa(a: number, b: number): bigint {
    const [gfn, pages] = this.windows[b % this.windows.length]!;
    const places = [gfn, gfn + pages - 1, gfn + pages, gfn - 1, gfn + ((b >> 3) % pages), gfn + ((b >> 3) % pages)];
    const far = [
      this.#last,
      this.#last + 1,
      this.#last + 1 + gfn,
      2 ** 36 + gfn,
      2 ** 40,
      2 ** 51 + gfn,
      2 ** 20 + gfn,
    ];
    const at = a % 8 < 6 ? places[a % 6]! : far[(a >> 3) % far.length]!;
    return BigInt(Math.max(at, 0)) << 12n;
  }

  step([kind, a, b]: Step): void {
    const { vm } = this;
    const vcpu = this.vcpus[a & 1]!;
    const gpa = this.#gpa(a >> 1, b);
    const slot = vm.state.slots.visible(0, gpa >> 12n);
    const hva = slot === undefined ? HVA + (BigInt(b % PAGES) << 12n) : hvaOf(slot, gpa >> 12n);
    const everything = () => true;
    if (kind < 56) this.#access(gpa, ACCESSES[b % 3]!, vcpu, a);
    else if (kind < 64) {
      const range = this.host.move(hva, hva + (BigInt(b % 5) << 12n) + 1n);
      this.#watch(() => vm.unmapRange(...range), this.#behind(range));
    } else if (kind < 69) {
      const range = this.host.resize(hva);
      this.#watch(() => vm.unmapRange(...range), this.#behind(range));
    } else if (kind < 75) {
      const page = this.host.share(hva);
      this.#watch(() => vm.changePage(hva, page), this.#behind([hva, hva + 1n]));
    } else if (kind < 79)
      this.#watch(() => void (b % 2 ? vm.age : vm.testAge).call(vm, hva, hva + 0x8000n), nothing, { ages: true });
    else if (kind < 83) this.#toggleSlot(b % this.windows.length);
    else if (kind < 88) this.#toggleLog((b % 2) as 0 | 1);
    else if (kind < 94) this.#watch(() => this.#logs.collect(b % 2, a), this.#inSlot(b % 2), { flushes: true });
    else if (kind < 97) this.#watch(() => vm.recoverHugePages(a % 4), everything, { flushes: true });
    else this.#watch(() => vm.setPageLimit(64 + (b % 8)), everything, { flushes: true });
  }

  #inSlot(id: number): (gfn: bigint) => boolean {
    const slot = this.vm.state.slots.find(0, id);
    return (gfn) => slot !== undefined && gfn >= slot.base && gfn < slot.base + BigInt(slot.pages);
  }

  /** Every root goes with a slot; a new one changes nothing. */
  #toggleSlot(id: number): void {
    const gone = this.vm.state.slots.find(0, id) !== undefined;
    const act = () => this.#set(id, gone ? { size: 0 } : {});
    if (!gone) this.#watch(act, nothing);
    else {
      act();
      for (const vcpu of this.vcpus) vcpu.enterGuest();
      this.vm.takeFlushes();
      this.#leaves = new LeafMap(this.vm);
    }
  }

  #toggleLog(id: 0 | 1): void {
    // What is written through another window is in no log of this one.
    if (this.kind.layout === 1 || this.vm.state.slots.find(0, id) === undefined) return;
    this.#watch(() => this.#set(id, { logDirty: !this.#logs.isOn(id) }), this.#inSlot(id), { flushes: true });
  }

  /** Something that comes between a fault and its end. */
  #interrupt(a: number, hva: bigint): void {
    const { vm } = this;
    const range = this.host.resize(hva);
    if (a % 3 === 0) vm.unmapRange(...range);
    else {
      vm.unmapRange(...range);
      vm.changePage(hva, this.host.share(hva));
    }
    if (a % 5 === 0) this.vcpus[1]!.fault(Number(hva & 0x3f_f000n), 0, 4);
  }

  #access(gpa: bigint, access: number, vcpu: Vcpu, a: number): void {
    const gfn = gpa >> 12n;
    const slot = this.vm.state.slots.visible(0, gfn);
    const interrupts = a % 16 === 0 && slot !== undefined;
    if (interrupts) this.host.interrupt = () => this.#interrupt(a >> 4, hvaOf(slot, gfn));
    // The mitigation, the limit on pages and the host's own changes take other pages away; a fault alone only its own block.
    const block = (one: bigint) => one >> 9n === gfn >> 9n;
    const copies = slot !== undefined && this.host.isShared(hvaOf(slot, gfn));
    let result = "";
    this.#watch(
      () => {
        result = this.#run(gpa, access, vcpu);
      },
      interrupts || copies ? () => true : block,
      { flushes: interrupts || copies, at: gfn },
    );
    this.host.interrupt = undefined;
    let wanted = slot === undefined || (slot.flags & 2 && access === Flag.Write) ? "mmio emulate" : "ok";
    if (gfn > BigInt(this.#last)) wanted = "emulate";
    if (!wanted.split(" ").includes(result)) {
      throw new Error(`access ${access} to ${gpa.toString(16)} ends as ${result}, expected ${wanted}`);
    }
  }

  #run(gpa: bigint, access: number, vcpu: Vcpu): string {
    for (let tries = 0; tries < 12; tries++) {
      vcpu.enterGuest();
      const space = this.judge.space(this.judge.rootOf(vcpu, this.machine.accessedDirty));
      const before = space.walk(gpa, access | Flag.User).steps.at(-1)?.entry ?? 0n;
      const found = space.translate(gpa, access | Flag.User);
      space.dispose?.();
      if (found.ok) {
        if (gpa >> 12n > BigInt(this.#last)) throw new Error(`${gpa.toString(16)} is mapped`);
        if (access === Flag.Write) this.#write(gpa, before);
        return "ok";
      }
      const missing = found.status === Status.NestedPageFault || found.status === Status.EptViolation;
      const code = missing || found.status === Status.EptMisconfiguration ? faultCode(found) : 0;
      const { result } = vcpu.pageFault(gpa, code);
      if (result === "emulate" || result === "mmio" || result === "inject") return result;
    }
    return "loop";
  }

  /** Through an entry that was `spte`; a processor with a log of its own tells of it. */
  #write(gpa: bigint, spte: bigint): void {
    const slot = this.vm.state.slots.visible(0, gpa >> 12n)!;
    this.vm.state.core.internals.linear.u64[(slot.ram + Number(gpa - (slot.base << 12n))) / 8] = this.#written++;
    const dirty = this.machine.format.kind === "ept" ? 0x200n : 0x40n;
    if (this.machine.pageModificationLog && (spte & dirty) === 0n) this.vm.markDirty(gpa >> 12n);
  }

  dispose(): void {
    this.judge.dispose();
    this.vm.dispose();
  }
}

const nothing = () => false;

function hvaOf(slot: Memslot, gfn: bigint): bigint {
  return slot.hva + ((gfn - slot.base) << 12n);
}
