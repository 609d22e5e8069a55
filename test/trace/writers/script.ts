/** Traces line by line: what a test plants, as tracing/trace prints it. */

export interface ScriptThread {
  readonly thread: number;
  readonly cpu?: number;
  /** The process, where the option record-tgid is set. */
  readonly process?: number;
  readonly command?: string;
}

export class TraceScript {
  readonly #lines: string[] = [];
  #time = 100_000_000;

  /** Microseconds go by. */
  wait(micros: number): this {
    this.#time += micros;
    return this;
  }

  /** Events of one vCPU's thread, 10 us apart. */
  on(vcpu: number, ...bodies: readonly string[]): this {
    return this.by({ thread: 4000 + vcpu, cpu: vcpu, command: `CPU ${vcpu}/KVM` }, ...bodies);
  }

  /** The same of any thread. */
  by({ thread, cpu = 0, process, command = "CPU 0/KVM" }: ScriptThread, ...bodies: readonly string[]): this {
    const group = process === undefined ? "" : ` (${process})`;
    for (const body of bodies) {
      this.#time += 10;
      const time = `${Math.floor(this.#time / 1e6)}.${String(this.#time % 1e6).padStart(6, "0")}`;
      this.#lines.push(`       ${command}-${thread}${group}    [00${cpu}] d..1.   ${time}: ${body}`);
    }
    return this;
  }

  times(count: number, make: (script: this, index: number) => void): this {
    for (let index = 0; index < count; index++) make(this, index);
    return this;
  }

  get text(): string {
    return `# tracer: nop\n#\n${this.#lines.join("\n")}\n`;
  }
}

/** Bodies of events, as Linux 6.1 prints them. */
export const entry = (vcpu = 0): string => `kvm_entry: vcpu ${vcpu}, rip 0x1000`;
export const exit = (reason = "npf", vcpu = 0, info1 = 0): string =>
  `kvm_exit: vcpu ${vcpu} reason ${reason} rip 0x1000 info1 0x${info1.toString(16).padStart(16, "0")} info2 0x0000000000000000 intr_info 0x00000000 error_code 0x00000000`;
export const fault = (address: bigint | number, error = 0x100000006, vcpu = 0): string =>
  `kvm_page_fault: vcpu ${vcpu} rip 0x1000 address 0x${address.toString(16).padStart(16, "0")} error_code 0x${error.toString(16)}`;

export interface PageText {
  readonly root?: number;
  readonly sync?: "sync" | "unsync";
}

const pageBody = (gfn: number, role: string, { root = 0, sync = "sync" }: PageText): string =>
  `sp gen 0 gfn ${gfn.toString(16)} ${role} root ${root} ${sync}`;
export const got = (gfn: number, role: string, how: "new" | "existing" = "existing", more: PageText = {}): string =>
  `kvm_mmu_get_page: ${pageBody(gfn, role, more)} ${how}`;
export const zapped = (gfn: number, role: string, more: PageText = {}): string =>
  `kvm_mmu_prepare_zap_page: ${pageBody(gfn, role, more)}`;
export const unsynced = (gfn: number, role: string): string => `kvm_mmu_unsync_page: ${pageBody(gfn, role, {})}`;
export const synced = (gfn: number, role: string): string =>
  `kvm_mmu_sync_page: ${pageBody(gfn, role, { sync: "unsync" })}`;
export const setSpte = (gfn: number, spte: bigint, letters: string, level = 1, at = 0x5000): string =>
  `kvm_mmu_set_spte: gfn ${gfn.toString(16)} spte ${spte.toString(16)} (${letters}) level ${level} at ${at.toString(16)}`;
export const tdpChanged = (gfn: number, level: number, old: bigint, made: bigint): string =>
  `kvm_tdp_mmu_spte_changed: as id 0 gfn ${gfn.toString(16)} level ${level} old_spte ${old.toString(16)} new_spte ${made.toString(16)}`;
export const zapAll = (pages: number): string =>
  `kvm_mmu_zap_all_fast: kvm-mmu-valid-gen 0 used_pages ${pages.toString(16)}`;
export const enterL2 =
  "kvm_nested_vmenter: rip: 0x0000000000001000 vmcb: 0x0000000000006000 nested_rip: 0x0000000000008000 int_ctl: 0x00000000 event_inj: 0x00000000 nested_npt=y nested_cr3: 0x0000000000104000";
export const exitToL1 =
  "kvm_nested_vmexit_inject: reason: hypercall ext_inf1: 0x0000000000000000 ext_inf2: 0x0000000000000000 ext_int: 0x00000000 ext_int_err: 0x00000000";
