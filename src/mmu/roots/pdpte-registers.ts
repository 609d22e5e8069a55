/** The PDPTEs of a PAE guest: loaded with CR3, and for software walks where the guest loads CR3 without an exit. */
import { GeneralProtectionError } from "../../errors.js";
import { checkPdptes, pdpteReservedBits } from "../config/control-registers.js";
import { vcpuRecord } from "../memory/records.js";
import type { Vcpu } from "../vcpu.js";

/** A user's write: what load_pdptrs asks of L1's second stage, whatever the access. */
const TABLE_ACCESS = 6;

export class PdpteRegisters {
  /** The processor's own registers, which it loads where CR writes do not exit (VMX with EPT). */
  #hardware: readonly bigint[] = [0n, 0n, 0n, 0n];

  /** Guest PDPTE fields of L1's VMCS; undefined where no nested guest has run yet. */
  #fields: readonly bigint[] | undefined;

  constructor(readonly vcpu: Vcpu) {}

  /** Loads those at CR3; returns whether they differ from those before. Throws GeneralProtectionError. */
  load(cr3: bigint): boolean {
    const { walkMmu } = this.vcpu;
    const values = this.#read(cr3);
    const changed = walkMmu.pdptes.some((value, i) => value !== values[i]);
    walkMmu.pdptes = values;
    this.#hardware = values;
    return changed;
  }

  /**
   * Before a software walk under two-dimensional paging: VMX has the PDPTEs that the processor latched (ept_save_pdptrs),
   * SVM has none and memory is read (svm_cache_reg). Malformed ones leave the old ones in force.
   */
  refresh(cr3: bigint): void {
    const { vm, walkMmu, nestedMmu } = this.vcpu;
    if (vm.virtualization === "vmx") walkMmu.pdptes = this.#hardware;
    // With nested paging the walk itself loads L2's, when it comes to them.
    else if (walkMmu !== nestedMmu) walkMmu.pdptes = this.#tryRead(cr3) ?? walkMmu.pdptes;
  }

  /** The guest wrote CR3 without an exit; where the processor raised #GP it kept its registers. */
  latch(cr3: bigint): void {
    this.#hardware = this.#tryRead(cr3) ?? this.#hardware;
  }

  /** Throws GeneralProtectionError for fields that VM entry refuses. */
  checkFields(fields: readonly bigint[] | undefined): void {
    const { limits, pdpteAccessed } = this.vcpu.vm;
    if (fields !== undefined) checkPdptes(fields, pdpteReservedBits(limits.guestPhysicalBits, pdpteAccessed));
  }

  /**
   * VM entry to a nested guest that uses PAE paging and EPT: the registers come from the VMCS, and CR3 is not looked at
   * (SDM, "Loading Page-Directory-Pointer-Table Entries"). Fields that L1 has not written are those of the last exit; before
   * the first, the table at CR3.
   */
  enterNested(cr3: bigint, fields: readonly bigint[] | undefined): void {
    this.#hardware = fields ?? this.#fields ?? this.#tryRead(cr3) ?? this.#hardware;
    this.#fields = this.#hardware;
  }

  /** VM exit from such a guest: it saves the registers (SDM, "Saving Non-Register State"). */
  exitNested(): void {
    this.#fields = this.#hardware;
  }

  #tryRead(cr3: bigint): bigint[] | undefined {
    try {
      return this.#read(cr3);
    } catch (error) {
      if (error instanceof GeneralProtectionError) return undefined;
      throw error;
    }
  }

  /** Throws GeneralProtectionError where the table lies in no slot or an entry has reserved bits. */
  #read(cr3: bigint): bigint[] {
    const { vm, space, walkMmu, nestedMmu } = this.vcpu;
    const table = this.#l1Address(cr3 & 0xffff_ffe0n);
    const bytes = table === undefined ? undefined : vm.readGuest(table, 32, space);
    if (bytes === undefined) {
      throw new GeneralProtectionError(`page-directory-pointer table at 0x${cr3.toString(16)} lies in no slot`);
    }
    const values = [...new BigUint64Array(bytes.slice().buffer)];
    // L2's own addresses have no alias bits.
    const aliasMask = walkMmu === nestedMmu ? 0n : vm.limits.aliasMask;
    checkPdptes(values, pdpteReservedBits(vm.limits.guestPhysicalBits, vm.pdpteAccessed, aliasMask));
    return values;
  }

  /** While L2 runs behind L1's second stage CR3 is L2's: through that stage, undefined where L1 maps nothing. */
  #l1Address(table: bigint): bigint | undefined {
    const { vm, pointer, walkMmu, nestedMmu, guestMmu } = this.vcpu;
    if (walkMmu !== nestedMmu) return table;
    const low = Number(table & 0xffff_f000n);
    if (vm.exports.walk(pointer, guestMmu.pointer, pointer, 0, low, TABLE_ACCESS) === 0) return undefined;
    return (vcpuRecord.get64(vm.linear, pointer, "GW_GFN") << 12n) | (table & 0xfffn);
  }
}
