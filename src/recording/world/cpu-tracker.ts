/** Following the vCPUs' control registers and PDPTEs through a recording. */
import { bitOf } from "../../abi/bits.js";
import { MSR_EFER } from "../../abi/processor.js";
import { CR0, CR3, CR3_PAE, CR4, EFER } from "../../abi/registers.js";
import { decodeRole, layoutOf, splitRole } from "../../role/index.js";
import type { EventOf, RecordedEvent } from "../format/events.js";
import type { GuestStep, Snapshot, Step } from "../format/recording.js";
import type { ControlRegisters, NestedEntry } from "../format/state.js";
import { fromBytes } from "./host-memory.js";

const CR0_PE = bitOf(CR0, "PE");
const CR0_PG = bitOf(CR0, "PG");
const CR0_WP = bitOf(CR0, "WP");
/** EM and TS, which enter_smm clears with PE and PG. */
const CR0_EM_TS = bitOf(CR0, "EM") | bitOf(CR0, "TS");
const EFER_LME = bitOf(EFER, "LME");
const EFER_LMA = bitOf(EFER, "LMA");
const EFER_NXE = bitOf(EFER, "NXE");
const CR3_NOFLUSH = bitOf(CR3, "NOFLUSH");
const PDPT = bitOf(CR3_PAE, "PDPT");

/** Offsets in a VMCB (APM vol. 2, "Layout of VMCB"). */
const VMCB_EFER = 0x4d0n;
const VMCB_CR4 = 0x548n;

export const RSM_INSTRUCTION = "0faa";

/** One vCPU's registers at a point of a recording. */
interface VcpuState {
  registers: ControlRegisters;
  /** PAE PDPTEs as last latched by a load of CR3, CR0, CR4 or EFER. */
  pdptes: Pdptes;
  /** L2 is running, entered like this. */
  nested: NestedEntry | undefined;
  smmPending: boolean;
  /** Registers that RSM restores. */
  saved: ControlRegisters | undefined;
}

export type Pdptes = readonly [bigint, bigint, bigint, bigint];

export type ReadMemory = (gpa: bigint, length: number) => Uint8Array;

/**
 * The control registers of every vCPU as the recording goes on: `pre` at the start of a guest step, then what the
 * events say. The registers of L2 come from the step and the VMCB, on VMX from L2's recorded CPU role.
 */
export class CpuTracker {
  readonly #vcpus = new Map<number, VcpuState>();
  #pendingSmi = false;
  #resets = 0;
  readonly #readMemory: ReadMemory;

  constructor(readMemory: ReadMemory) {
    this.#readMemory = readMemory;
  }

  state(vcpu: number): VcpuState {
    let state = this.#vcpus.get(vcpu);
    if (state === undefined) {
      state = {
        registers: { cr0: 0n, cr3: 0n, cr4: 0n, efer: 0n },
        pdptes: [0n, 0n, 0n, 0n],
        nested: undefined,
        smmPending: false,
        saved: undefined,
      };
      this.#vcpus.set(vcpu, state);
    }
    return state;
  }

  /** Whether this vCPU has run before. */
  has(vcpu: number): boolean {
    return this.#vcpus.has(vcpu);
  }

  /** Registers that are in effect: L2's while it runs. */
  effective(vcpu: number): ControlRegisters {
    const state = this.state(vcpu);
    return state.nested?.registers ?? state.registers;
  }

  /** The PDPTEs that a PAE guest of this vCPU walks from. */
  pdptes(vcpu: number): Pdptes {
    return this.state(vcpu).pdptes;
  }

  /** Loads the PDPTEs at CR3, as a MOV to a control register does in PAE paging. */
  #latch(vcpu: number): void {
    const { cr3 } = this.effective(vcpu);
    const read = (index: bigint): bigint => fromBytes(this.#readMemory((cr3 & PDPT) + index * 8n, 8));
    this.state(vcpu).pdptes = [read(0n), read(1n), read(2n), read(3n)];
  }

  vmmStep(step: Step): void {
    for (const input of step.inputs) if (input.kind === "smi") this.#pendingSmi = true;
  }

  beginStep(step: GuestStep): void {
    const first = !this.has(step.vcpu);
    const state = this.state(step.vcpu);
    state.registers = step.pre;
    state.nested = undefined;
    if (first) this.#latch(step.vcpu);
    if (this.#pendingSmi) {
      this.#pendingSmi = false;
      state.smmPending = true;
      this.#resets = 0;
    }
  }

  endStep(step: GuestStep): void {
    const state = this.state(step.vcpu);
    const moved = state.registers.cr3 !== step.post.cr3;
    state.registers = step.post;
    if (moved) this.#latch(step.vcpu);
  }

  /** Registers in SMM: enter_smm clears PE, EM, TS and PG, CR4 and EFER. */
  static inSmm(registers: ControlRegisters): ControlRegisters {
    return { cr0: registers.cr0 & ~(CR0_PE | CR0_PG | CR0_EM_TS), cr3: registers.cr3, cr4: 0n, efer: 0n };
  }

  /** Takes one event of the step into account. `index` is its position in `step.events`. */
  event(step: GuestStep, event: RecordedEvent, index: number): void {
    const state = this.state(step.vcpu);
    const change = (registers: Partial<ControlRegisters>): void => {
      if (state.nested === undefined) state.registers = { ...state.registers, ...registers };
      else state.nested = { ...state.nested, registers: { ...state.nested.registers, ...registers } };
    };
    const { efer } = this.effective(step.vcpu);
    switch (event.ev) {
      case "set_cr0": {
        // LMA follows CR0.PG where LME is set (SDM vol. 3, "IA-32e Mode Operation").
        const active = (event.cr0 & CR0_PG) !== 0n && (efer & EFER_LME) !== 0n;
        change({ cr0: event.cr0, efer: active ? efer | EFER_LMA : efer & ~EFER_LMA });
        this.#latch(step.vcpu);
        break;
      }
      case "set_cr3":
        change({ cr3: event.cr3 & ~CR3_NOFLUSH });
        this.#latch(step.vcpu);
        break;
      case "set_cr4":
        change({ cr4: event.cr4 });
        this.#latch(step.vcpu);
        break;
      case "kvm_msr":
        if (event.write === 1 && event.ecx === MSR_EFER) change({ efer: (event.data & ~EFER_LMA) | (efer & EFER_LMA) });
        break;
      case "reset_context":
        if (state.smmPending && ++this.#resets === 2) {
          state.smmPending = false;
          state.saved = state.registers;
          state.registers = CpuTracker.inSmm(state.registers);
        }
        break;
      case "kvm_emulate_insn":
        if (event.insn.startsWith(RSM_INSTRUCTION) && state.saved !== undefined) {
          state.registers = state.saved;
          state.saved = undefined;
        }
        break;
      case "kvm_nested_vmenter":
        state.nested = this.nestedEntry(step, event, index);
        this.#latch(step.vcpu);
        break;
      case "kvm_nested_vmexit_inject":
        state.nested = undefined;
        // VMX: the host state of L1's VMCS, which need not be what L1 ran with before.
        if (step.nested?.cr3 === undefined) state.registers = step.post;
        this.#latch(step.vcpu);
        break;
    }
  }

  /** How L2 is entered at the kvm_nested_vmenter event at `index`. */
  nestedEntry(step: GuestStep, event: EventOf<"kvm_nested_vmenter">, index: number): NestedEntry {
    const { registers } = this.state(step.vcpu);
    for (const later of step.events.slice(index + 1)) {
      if (later.ev === "kvm_entry") break;
      if (later.ev === "init_shadow_npt") {
        return {
          secondStage: {
            kind: "npt",
            ncr3: later.ncr3,
            hostCr0: later.cr0,
            hostCr4: later.cr4,
            hostEfer: later.efer,
          },
          // The VMCB's own CR4 and EFER are in a recording as of its start only.
          registers: {
            ...registersOfRole(step.snapshot, registers),
            cr0: step.nested?.cr0 ?? 0n,
            cr3: step.nested?.cr3 ?? 0n,
          },
        };
      }
      if (later.ev === "init_shadow_ept") {
        return {
          secondStage: {
            kind: "ept",
            eptp: later.eptp,
            executeOnly: later.execonly !== 0,
            hugePageLevel: later.huge,
            accessedDirty: later.ad !== 0,
          },
          registers: { ...registersOfRole(step.snapshot, registers), cr3: l2Root(step, index) ?? registers.cr3 },
        };
      }
    }
    const amd = step.nested?.cr3 !== undefined;
    return {
      secondStage: { kind: "none" },
      registers: amd ? this.#vmcbRegisters(step, event.vmcb) : { ...registers, cr3: event.guest_pgd },
    };
  }

  #vmcbRegisters(step: GuestStep, vmcb: bigint): ControlRegisters {
    return {
      cr0: step.nested?.cr0 ?? 0n,
      cr3: step.nested?.cr3 ?? 0n,
      cr4: fromBytes(this.#readMemory(vmcb + VMCB_CR4, 8)),
      efer: fromBytes(this.#readMemory(vmcb + VMCB_EFER, 8)),
    };
  }
}

/**
 * L2's root table, which only a walk of L2's own tables shows: it begins with a walk of the root's address through
 * the second stage. A VMCS's fields are not in a recording.
 */
function l2Root(step: GuestStep, from: number): bigint | undefined {
  for (let index = from; index + 1 < step.events.length; index++) {
    const inner = step.events[index + 1]!;
    if (step.events[index]!.ev === "kvm_nested_vmexit_inject") return undefined;
    if (step.events[index]!.ev === "kvm_mmu_pagetable_walk" && inner.ev === "kvm_mmu_pagetable_walk")
      return inner.addr & ~0xfffn;
  }
  return undefined;
}

/** Registers, but CR3, that have the recorded paging mode of L2 (`nested_mmu.cpu_role`). */
function registersOfRole(snapshot: Snapshot, l1: ControlRegisters): ControlRegisters {
  const role = snapshot.nestedMmu?.cpuRole;
  if (role === undefined) return l1;
  const { base, ext } = decodeRole(layoutOf("5.19"), splitRole(role));
  const paging = base.fields.level !== 0;
  const pae = paging && base.fields.has_4_byte_gpte === 0;
  const when = (set: number | undefined, bit: bigint) => (set ? bit : 0n);
  const cr4 =
    (pae ? bitOf(CR4, "PAE") : 0n) |
    when(ext?.fields.cr4_pse, bitOf(CR4, "PSE")) |
    when(ext?.fields.cr4_smap, bitOf(CR4, "SMAP")) |
    when(ext?.fields.cr4_smep, bitOf(CR4, "SMEP")) |
    when(ext?.fields.cr4_la57, bitOf(CR4, "LA57"));
  return {
    cr0: CR0_PE | (paging ? CR0_PG : 0n) | when(base.fields.cr0_wp, CR0_WP),
    cr3: 0n,
    cr4,
    efer: when(base.fields.efer_nx, EFER_NXE) | when(ext?.fields.efer_lma, EFER_LME | EFER_LMA),
  };
}
