/** The shadow MMU as the target of a replay. */
import { bitOf, flagOf } from "../../abi/bits.js";
import { PFERR } from "../../abi/faults.js";
import { hasRule } from "../../abi/kernel-rules.js";
import { MEM_FLAGS } from "../../abi/kvm.js";
import { RFLAGS } from "../../abi/processor.js";
import { SHADOW_CODES } from "../../abi/shadow.js";
import { EMPTY_BIT_63 } from "../../abi/spte.js";
import { loadSync } from "../../core/index.js";
import { ConfigError, UnsupportedError } from "../../errors.js";
import {
  type HostPage,
  INVALID_ROOT,
  type InjectedFault,
  type MmuTraceEvent,
  type PagingContext,
  type SecondStage,
  type ShadowPage,
  type Vcpu,
  VirtualMachine,
  type VmMasks,
} from "../../mmu/index.js";
import { ROLE_LEVEL_PROMOTED, roleGuestLevel, roleIsPromoted } from "../../role/index.js";
import { recordedRole } from "../compare/page-names.js";
import type { MmuEvent } from "../format/events.js";
import type {
  ControlRegisters,
  FaultInput,
  FaultOutcome,
  GuestWalkOutcome,
  MmuContextState,
  MmuState,
  NestedEntry,
  HostPage as PinnedPage,
  PreFaultOutcome,
  ReplayHost,
  ShadowPageState,
  SlotInput,
} from "../format/state.js";
import type { ReplayTarget, ReplayTargetFactory, ReplayVmConfig } from "./target.js";

/** What the engine emits: the kernel's kvmmmu tracepoints. */
const EMITTED: ReadonlySet<string> = new Set([
  "kvm_mmu_pagetable_walk",
  "kvm_mmu_paging_element",
  "kvm_mmu_set_accessed_bit",
  "kvm_mmu_set_dirty_bit",
  "kvm_mmu_walker_error",
  "kvm_mmu_get_page",
  "kvm_mmu_sync_page",
  "kvm_mmu_unsync_page",
  "kvm_mmu_prepare_zap_page",
  "mark_mmio_spte",
  "handle_mmio_page_fault",
  "fast_page_fault",
  "kvm_mmu_zap_all_fast",
  "check_mmio_spte",
  "kvm_mmu_set_spte",
  "kvm_mmu_spte_requested",
  "kvm_mmu_split_huge_page",
  "kvm_tdp_mmu_spte_changed",
]);

/** Events of the largest operation: a fast zap, which tells of all 512 entries of each TDP page. */
const EVENT_CAPACITY = 65536;
/** Linux's error numbers. */
const ERRNO = { ENOENT: 2, EAGAIN: 11, EINVAL: 22, EOPNOTSUPP: 95 } as const;
const PFERR_GUEST_FINAL = bitOf(PFERR, "GUEST_FINAL");
/** PFERR: the access was the processor's own, to a table of the guest. */
const PFERR_GUEST_PAGE = bitOf(PFERR, "GUEST_PAGE");
const RFLAGS_AC = bitOf(RFLAGS, "AC");

interface Range {
  readonly hva: bigint;
  readonly size: bigint;
  readonly ram: number;
}

/** The recorded masks, as the kernel whose rules the VM has would set them. */
function vmMasks({ masks, paging, kernel, kernelRules }: ReplayVmConfig): VmMasks {
  const { hostWritable, mmuWritable, nx, x, user, accessed, dirty, memtype, me, meValue, accTrack } = masks;
  const { mmioValue, mmioAccess, nonpresentOrRsvd, nonpresentOrRsvdLowerGfn: lowerGfn } = masks;
  const bit63 = kernelRules?.["empty-bit-63"] ?? hasRule(kernel, "empty-bit-63");
  const withBit = (mask: bigint): bigint => (bit63 ? mask | EMPTY_BIT_63 : mask & ~EMPTY_BIT_63);
  const [present, mmio] = [masks.present, masks.mmioMask].map((mask) => (paging === "ept" ? withBit(mask) : mask));
  return {
    ...{ hostWritable, mmuWritable, nx, x, user, accessed, dirty, present: present!, memtype, me, meValue, accTrack },
    ...{ mmio: mmio!, mmioValue, mmioAccess, nonpresentOrRsvd, lowerGfn },
  };
}

/** CR0 of L1 shapes nothing of its NPT: paging is on, and CR0.WP counts as clear. */
function secondStage(stage: NestedEntry["secondStage"]): SecondStage | undefined {
  if (stage.kind === "none") return undefined;
  if (stage.kind === "ept") return stage;
  const { kind, ncr3, hostCr4, hostEfer } = stage;
  return { kind, ncr3, hostCr4, hostEfer };
}

/** A comparison of events means nothing where some are missing. */
function passOn(sink: (event: MmuEvent) => void): (event: MmuTraceEvent) => void {
  return (event) => {
    if (event.ev === "lost_events") throw new UnsupportedError(`${event.count} events were lost, expected none`);
    sink(event);
  };
}

class EngineTarget implements ReplayTarget {
  readonly emits = EMITTED;
  readonly vm: VirtualMachine;
  readonly #ranges: readonly Range[];
  readonly #vcpus = new Map<number, Vcpu>();

  constructor(config: ReplayVmConfig, host: ReplayHost, sink?: (event: MmuEvent) => void) {
    const { masks } = config;
    this.vm = new VirtualMachine(loadSync(), {
      kernel: config.kernel,
      ...(config.kernelRules === undefined ? {} : { kernelRules: config.kernelRules }),
      masks: vmMasks(config),
      paging: config.paging,
      tdpMmu: config.paging !== "shadow" && config.tdpMmu,
      tdpLevels: { forced: levelsOf(masks.tdpRootLevel, 0), max: levelsOf(masks.maxTdpLevel, 4) },
      pageModificationLog: config.pml,
      nestedPdptes: "loaded",
      pdpteAccessed: config.pdpteAccessedAllowed,
      hostPage1g: masks.maxHugePageLevel >= 3,
      hostPhysicalBits: masks.physBits,
      guestPhysicalBits: config.guest.maxPhysAddr,
      guestPage1g: config.guest.page1g,
      virtualization: config.vendor === "amd" ? "svm" : "vmx",
      guestAmd: config.vendor === "amd",
      maxHugeLevel: masks.maxHugePageLevel,
      nxHugePages: config.nxHugePages,
      mmioCaching: masks.mmioCaching,
      manualDirtyLog: config.manualDirtyLog,
      eventCapacity: sink === undefined ? 0 : EVENT_CAPACITY,
      hostMemory: {
        pin: (hva, write) => {
          const page = host.pin(hva, write);
          if (page === undefined) throw new UnsupportedError(`the host has no page at 0x${hva.toString(16)}`);
          return { ...page, level: host.mappingLevel(hva) };
        },
        peek: (hva) => {
          const pfn = host.pinAtomic(hva);
          return pfn === undefined ? undefined : { pfn, writable: true, level: host.mappingLevel(hva) };
        },
      },
    });
    if (sink !== undefined) this.vm.events.sink = passOn(sink);
    this.#ranges = config.hostRanges.map(({ hva, size }) => ({ hva, size, ram: this.vm.createRam(Number(size)) }));
  }

  #ram(hva: bigint): number {
    const range = this.#ranges.find((one) => hva >= one.hva && hva < one.hva + one.size);
    if (range === undefined) throw new ConfigError(`host address 0x${hva.toString(16)} is in no range`);
    return range.ram + Number(hva - range.hva);
  }

  #vcpu(id: number): Vcpu {
    const vcpu = this.#vcpus.get(id);
    if (vcpu === undefined) throw new ConfigError(`vCPU ${id} does not exist`);
    return vcpu;
  }

  writeHost(hva: bigint, bytes: Uint8Array): void {
    this.vm.state.core.writeRam(this.#ram(hva), bytes);
  }

  readHost(hva: bigint, length: number): Uint8Array {
    return this.vm.state.core.readRam(this.#ram(hva), length);
  }

  setSlot(slot: SlotInput): void {
    this.vm.setSlot({
      addressSpace: slot.addressSpace,
      id: slot.id,
      gpa: slot.gpa,
      size: Number(slot.size),
      logDirty: (slot.flags & flagOf(MEM_FLAGS, "LOG_DIRTY_PAGES")) !== 0,
      readOnly: (slot.flags & flagOf(MEM_FLAGS, "READONLY")) !== 0,
      ...(slot.size === 0n ? {} : { hva: slot.hva, ram: this.#ram(slot.hva) }),
    });
  }

  createVcpu(id: number, registers: ControlRegisters): void {
    this.#vcpus.set(id, this.vm.createVcpu(registers));
  }

  enterGuest(vcpu: number): void {
    this.#vcpu(vcpu).enterGuest();
  }

  setRflags(vcpu: number, rflags: bigint): void {
    this.#vcpu(vcpu).setAc((rflags & RFLAGS_AC) !== 0n);
  }

  setGuestRegisters(vcpu: number, registers: Partial<ControlRegisters>): void {
    this.#vcpu(vcpu).setGuestRegisters(registers);
  }

  pageFault(vcpu: number, fault: FaultInput): FaultOutcome {
    const code = Number(fault.errorCode & 0xffff_ffffn);
    const guestTable = (fault.errorCode & PFERR_GUEST_PAGE) !== 0n;
    return this.#vcpu(vcpu).pageFault(fault.address, code, {
      eventDelivery: fault.eventDelivery,
      guestTable,
      guestFinal: (fault.errorCode & PFERR_GUEST_FINAL) !== 0n,
      ...(fault.rip === undefined ? {} : { rip: fault.rip }),
    });
  }

  guestWalk(vcpu: number, address: bigint, errorCode: number): GuestWalkOutcome {
    return this.#vcpu(vcpu).walk(address, errorCode);
  }

  injectEmulatedFault(vcpu: number, fault: InjectedFault): void {
    this.#vcpu(vcpu).injectFault(fault.errorCode, fault.address, fault.nested);
  }

  emulatedWrite(vcpu: number, gpa: bigint, bytes: Uint8Array): void {
    this.#vcpu(vcpu).emulatedWrite(gpa, bytes);
  }

  markDirty(vcpu: number, gfn: bigint): void {
    this.vm.markDirty(gfn, this.#vcpu(vcpu).inSmm ? 1 : 0);
  }

  writeCr0(vcpu: number, value: bigint): void {
    this.#vcpu(vcpu).writeCr0(value);
  }

  writeCr3(vcpu: number, value: bigint): void {
    this.#vcpu(vcpu).writeCr3(value);
  }

  writeCr4(vcpu: number, value: bigint): void {
    this.#vcpu(vcpu).writeCr4(value);
  }

  writeEfer(vcpu: number, value: bigint): void {
    this.#vcpu(vcpu).writeEfer(value);
  }

  invlpg(vcpu: number, gva: bigint): void {
    this.#vcpu(vcpu).invlpg(gva);
  }

  invpcid(vcpu: number, type: number, pcid: number, gva: bigint): void {
    this.#vcpu(vcpu).invpcid(type, pcid, gva);
  }

  invept(vcpu: number, eptp: bigint | "all"): void {
    this.#vcpu(vcpu).invept(eptp);
  }

  releaseGuestMmu(vcpu: number): void {
    this.#vcpu(vcpu).releaseNested();
  }

  enterNested(vcpu: number, entry: NestedEntry): void {
    this.#vcpu(vcpu).enterNested(entry.registers, secondStage(entry.secondStage));
  }

  exitNested(vcpu: number, registers: ControlRegisters): void {
    this.#vcpu(vcpu).exitNested(registers);
  }

  enterSmm(vcpu: number): void {
    this.#vcpu(vcpu).enterSmm();
  }

  leaveSmm(vcpu: number, registers: ControlRegisters): void {
    this.#vcpu(vcpu).leaveSmm(registers);
  }

  setSregs(vcpu: number, registers: ControlRegisters): void {
    this.#vcpu(vcpu).setRegisters(registers);
  }

  getDirtyLog(addressSpace: number, slot: number): bigint[] {
    return this.vm.getDirtyLog(slot, addressSpace).map(BigInt);
  }

  clearDirtyLog(addressSpace: number, slot: number, first: number, count: number): void {
    const pages = Array.from({ length: count }, (_, i) => first + i);
    this.vm.clearDirtyLog(slot, first, count, pages, addressSpace);
  }

  zapSlotsAlone(): void {
    this.vm.zapSlotsAlone();
  }

  preFault(vcpu: number, gpa: bigint, size: bigint): PreFaultOutcome {
    const { error, ...left } = this.#vcpu(vcpu).preFaultMemory(gpa, size);
    return { ...left, errno: error === undefined ? 0 : ERRNO[error] };
  }

  setMmuPages(count: number): void {
    this.vm.setPageLimit(count);
  }

  unmapRange(start: bigint, end: bigint): void {
    this.vm.unmapRange(start, end);
  }

  changePte(hva: bigint, page: PinnedPage | undefined): void {
    if (page === undefined) return;
    const changed: HostPage = { ...page, level: 1 };
    this.vm.changePage(hva, changed);
  }

  age(start: bigint, end: bigint): boolean {
    return this.vm.age(start, end);
  }

  testAge(start: bigint, end: bigint): boolean {
    return this.vm.testAge(start, end);
  }

  setHardwareBits(hpa: bigint, index: number, bits: bigint): void {
    const page = this.vm.pages().find((one) => one.hostAddress === hpa);
    if (page !== undefined) this.vm.setHardwareBits(page, index, bits);
  }

  state(id: number): MmuState {
    const vcpu = this.#vcpu(id);
    const pages = this.vm.pages();
    // Roots may be zapped already: they have addresses, but are no active pages.
    const addresses = new Map(this.vm.allPages().map((page) => [page.pointer, page.hostAddress]));
    const { mmioInfo: mmio, mmu, guestMmu, walksNested } = vcpu.state;
    return {
      emptySpte: this.vm.state.core.vm.empty,
      indirectPages: this.vm.counter("INDIRECT"),
      tdpPages: pages.filter(({ tdp, rootCount }) => tdp && rootCount === 0).length,
      rootMmu: contextState(vcpu.state.rootMmu, addresses),
      guestMmu: contextState(vcpu.state.guestMmu, addresses),
      nestedMmu: contextState(vcpu.state.nestedMmu, addresses),
      active: mmu === guestMmu ? "guest_mmu" : "root_mmu",
      walking: walksNested ? "nested_mmu" : "root_mmu",
      usedPages: this.vm.counter("USED"),
      validGen: this.vm.state.core.vm.validGen,
      mmio: { gva: mmio.gva, gfn: mmio.gfn, access: mmio.access, gen: mmio.generation },
      pages: pages.map(pageState),
    };
  }
}

/** Where a dummy root is: at the zero page, in which no table lies. */
const DUMMY_ROOT = 0n;

/** Levels of two-dimensional tables as KVM's variables have them; 0 for none. */
function levelsOf<None extends number>(level: number, none: None): 3 | 4 | 5 | None {
  return level === 3 || level === 4 || level === 5 ? level : none;
}

/** A root role in the layout of Linux 6.1, whose passthrough is the one promotion that it makes with an ordinary page. */
function recordedRootRole(role: number): number {
  const passthrough = roleIsPromoted(role) && roleGuestLevel(role) === 4;
  return recordedRole(passthrough ? role : role & ~ROLE_LEVEL_PROMOTED);
}

function contextState(context: PagingContext, addresses: ReadonlyMap<number, bigint>): MmuContextState {
  const state = context.state();
  const address = (page: number) => addresses.get(page) ?? INVALID_ROOT;
  return {
    rootPgd: state.rootPgd,
    rootHpa: context.roots.isDummy ? DUMMY_ROOT : address(state.root),
    previousRoots: state.previous.map(({ page, pgd }) => ({ pgd, hpa: address(page) })),
    cpuRole: state.cpuRole,
    rootRole: recordedRootRole(state.rootRole),
    permissions: state.permissions,
    pkruMask: state.pkruMask,
    guestReserved: state.guestReserved,
    shadowZero: state.shadowReserved,
    pdptrs: state.pdptes,
  };
}

function pageState(page: ShadowPage): ShadowPageState {
  return {
    hpa: page.hostAddress,
    role: recordedRole(page.role),
    fullRole: page.role,
    gfn: page.gfn,
    pdpt: (page.low & SHADOW_CODES.LOW_PDPT) !== 0,
    rootCount: page.rootCount,
    unsync: page.unsync,
    unsyncChildren: page.unsyncChildren,
    validGen: page.generation,
    writeFlooding: page.writeFlooding,
    nxHugePageDisallowed: page.noHugePage,
    tdp: page.tdp,
    entries: page.entries,
    shadowed: page.shadowed,
  };
}

/** A target for one recording under shadow paging. */
export const engineTarget: ReplayTargetFactory = (config, host, sink) => new EngineTarget(config, host, sink);
