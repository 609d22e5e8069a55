/** Faults and software walks of a vCPU. */
import { bitOf, EPT_QUAL, flagOf, PFERR as PFERR_TABLE } from "../../abi/index.js";
import { SHADOW_CODES } from "../../abi/shadow.js";
import { checkInteger } from "../../checks.js";
import type { VcpuCore } from "../../core/mmu/vcpu-core.js";
import { OutOfMemoryError } from "../../errors.js";
import { isPaePaging, isWriteProtect } from "../../registers/control-registers.js";
import { checkLinear } from "../../registers/linear-address.js";
import { checkBigint } from "../config/check-config.js";
import type { Cpu } from "../machine/cpu.js";
import type { Machine } from "../machine/machine.js";
import { invalidateNestedEpt, invalidateThrough } from "../roots/invalidation.js";
import { refreshPdptes } from "../roots/pdpte-registers.js";
import { enterGuest } from "../roots/root-requests.js";
import { AsyncFaults } from "./async-faults.js";
import {
  type AsyncFault,
  FAULT_CODE,
  type FaultOptions,
  type FaultOutcome,
  type InjectedFault,
  type WalkOutcome,
} from "./outcome.js";
import { WriteProtectedFaults } from "./write-protected.js";

const PFERR = {
  p: flagOf(PFERR_TABLE, "P"),
  w: flagOf(PFERR_TABLE, "W"),
  u: flagOf(PFERR_TABLE, "U"),
  rsvd: flagOf(PFERR_TABLE, "RSVD"),
  fetch: flagOf(PFERR_TABLE, "I"),
} as const;
const GUEST_FINAL = bitOf(PFERR_TABLE, "GUEST_FINAL");
const GUEST_PAGE = bitOf(PFERR_TABLE, "GUEST_PAGE");
const GVA_VALID = bitOf(EPT_QUAL, "GVA_VALID");
const GVA_FINAL = bitOf(EPT_QUAL, "GVA_FINAL");
/** Advanced VM-exit information. */
const ADVANCED = bitOf(EPT_QUAL, "USER_ADDRESS") | bitOf(EPT_QUAL, "WRITABLE_PAGE") | bitOf(EPT_QUAL, "XD_PAGE");
const { RET_PF_INJECT, RET_PF_WRITE_PROTECTED, NEED_HOST_PAGE, NEED_PAGE, NO_SPACE, NEED_STOCK, TOO_WIDE, ATTEND } =
  SHADOW_CODES;

/** Bits 63:32 of the error code, as two-dimensional paging gives them. */
function errorHigh(options: FaultOptions | undefined): bigint {
  if (options?.guestTable) return GUEST_PAGE;
  return options?.guestFinal ? GUEST_FINAL : 0n;
}

/** What most faults end with: the same objects for all. */
const OUTCOMES: readonly (FaultOutcome | undefined)[] = Object.assign(new Array(RET_PF_INJECT + 1).fill(undefined), {
  [SHADOW_CODES.RET_PF_RETRY]: Object.freeze({ result: "retry" }),
  [SHADOW_CODES.RET_PF_FIXED]: Object.freeze({ result: "fixed" }),
  [SHADOW_CODES.RET_PF_SPURIOUS]: Object.freeze({ result: "spurious" }),
});
const MMIO: FaultOutcome = Object.freeze({ result: "mmio" });
const EMULATE: FaultOutcome = Object.freeze({ result: "emulate" });

export class VcpuFaults {
  readonly #core: VcpuCore;
  readonly #async: AsyncFaults;
  readonly #writeProtected: WriteProtectedFaults;

  constructor(
    readonly vm: Machine,
    readonly cpu: Cpu,
  ) {
    this.#core = cpu.core;
    this.#async = new AsyncFaults(cpu);
    this.#writeProtected = new WriteProtectedFaults(vm, cpu, (address, code) => this.walk(address, code));
  }

  /** Of the fault in progress: bits 63:32 of its error code, for its events. */
  #high = 0n;

  /** @internal What a saved state is made of. */
  get kept() {
    return { high: this.#high, waits: this.waits, last: this.#writeProtected.last };
  }

  /** @internal */
  adopt(kept: VcpuFaults["kept"]): void {
    this.#high = kept.high;
    this.#async.adopt(kept.waits);
    this.#writeProtected.last = kept.last;
  }

  /** See Vcpu.pageFault. */
  pageFault(address: bigint, errorCode: number, options?: FaultOptions): FaultOutcome {
    // More would take time that each fault has: what is of the right type is taken modulo its width.
    if (typeof address !== "bigint") checkBigint(address, "address");
    if (typeof errorCode !== "number") checkInteger(errorCode, 0, 0xffffffff, "error code");
    this.#high = errorHigh(options);
    if (options?.eventDelivery && this.vm.tdp === undefined && !this.vm.has("late-unprotect")) {
      const walk = this.walk(address, options.cpl === 3 ? PFERR.u : 0);
      // A failed walk leaves the kernel with an all-ones address: no table lies there.
      if (walk.ok) this.vm.unprotect(this.vm.guest.gfnOf(walk.gpa));
    }
    if (!this.vm.pages.caches.stocked) this.stock();
    // The address goes to the core in one piece: halves of a BigInt take longer than the fault.
    let code = this.#core.fault(address, errorCode, 0);
    if (code >= NEED_HOST_PAGE) code = this.attend(code);
    const outcome = OUTCOMES[code];
    return outcome !== undefined ? outcome : this.#rareOutcome(code, address, errorCode, options);
  }

  /** See Vcpu.fault. */
  fault(low: number, high: number, errorCode: number): number {
    const { vm } = this;
    if (!vm.pages.caches.stocked) this.stock();
    const code = this.#core.faultAt(high, low, errorCode);
    return code < RET_PF_WRITE_PROTECTED ? code : this.#endFault(code, high, low, errorCode);
  }

  #endFault(code: number, high: number, low: number, errorCode: number): number {
    const end = code >= NEED_HOST_PAGE ? this.attend(code) : code;
    if (end !== RET_PF_WRITE_PROTECTED) return end;
    const address = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    return this.retriesWrite(address, errorCode, {}) ? FAULT_CODE.retry : FAULT_CODE.emulate;
  }

  /** Whether an access that write protection of a table stopped can be made again: the table was given up for it. */
  retriesWrite(address: bigint, errorCode: number, options: FaultOptions): boolean {
    const retries = this.#writeProtected.handle(address, errorCode, options);
    // The core has counted it as to be emulated.
    if (retries) this.vm.core.vm.pfEmulate--;
    return retries;
  }

  /** See Vcpu.unprotectAndRetry. */
  unprotectAndRetry(address: bigint, options: FaultOptions, always: boolean): boolean {
    return this.#writeProtected.unprotect(address, options, always);
  }

  /** A fault that no access of the guest stands behind, at a guest-physical address; a code of FAULT_CODE or RET_PF_*. */
  ahead(address: bigint): number {
    if (!this.vm.pages.caches.stocked) this.stock();
    this.#high = GUEST_FINAL;
    const code = this.attend(this.#core.fault(address, 0, 1));
    this.vm.events.collect(this.cpu.id, this.#high);
    return code;
  }

  /** Before a fault where not enough pages are in stock. Throws DisposedError and BusyError, see Vcpu.begin. */
  stock(): void {
    this.vm.beginOn(this.cpu);
    this.vm.pages.caches.topUp(false);
  }

  /** Serves what the core asks for in a fault until it ends, and collects what it left; a code of FAULT_CODE. */
  attend(code: number): number {
    const { vm } = this;
    while (code >= NEED_HOST_PAGE && code < ATTEND) {
      if (code === TOO_WIDE) this.#refuseWide();
      if (code === NO_SPACE) throw new OutOfMemoryError("the limit on shadow pages leaves none for a fault");
      if (code === NEED_STOCK) {
        this.#topUp();
      } else {
        vm.stats.hostCalls++;
        if (code === NEED_PAGE) vm.providePage(this.cpu);
        else {
          const found = vm.hostPages.provide(this.cpu);
          if (found === "wait") return FAULT_CODE.wait;
          // The host's change may have left pages and events to collect.
          if (found === "retry") {
            code = ATTEND | SHADOW_CODES.RET_PF_RETRY;
            break;
          }
          // Faults of other vCPUs, which the host's doings brought about, have taken from the stock of this one.
          this.#topUp();
        }
      }
      code = this.#core.faultResume();
    }
    if (code >= ATTEND) {
      vm.settle();
      vm.events.collect(this.cpu.id, this.#high);
    }
    return code & ~ATTEND;
  }

  /** Stocks what a fault may take. Throws OutOfMemoryError. */
  #topUp(): void {
    this.vm.pages.caches.topUp(false);
    this.vm.tdpMmu?.topUp();
  }

  #refuseWide(): never {
    checkLinear(this.#core.record.fAddress, false);
    throw new RangeError("the fault's address is not wider than 32 bits");
  }

  /** Ends of a fault that say more than a word, or have to be acted upon. */
  #rareOutcome(code: number, address: bigint, errorCode: number, options?: FaultOptions): FaultOutcome {
    let outcome: FaultOutcome;
    if (code === RET_PF_INJECT) {
      const nested = this.cpu.mmu !== this.cpu.walkMmu;
      const onTable = options?.guestTable ?? false;
      const exitInfo = nested ? this.#exitInfo(onTable, options?.exitQualification) : undefined;
      const fault = { errorCode: this.injectedCode, address, nested, ...(exitInfo === undefined ? {} : { exitInfo }) };
      this.inject(fault);
      outcome = { result: "inject", ...fault };
    } else if (code === RET_PF_WRITE_PROTECTED) {
      const retries = this.retriesWrite(address, errorCode, options ?? {});
      outcome = retries ? { result: "retry", writeProtected: true } : { result: "emulate", writeProtected: true };
    } else if (code === FAULT_CODE.wait) outcome = { result: "retry", ...this.#async.add() };
    else {
      const mmio = this.#core.mmioHit(address);
      const tableWrite = options?.guestTable && (errorCode & PFERR.p) !== 0 && (errorCode & PFERR.w) !== 0;
      outcome = mmio ? MMIO : EMULATE;
      if (!mmio && tableWrite && this.cpu.isDirect) {
        this.vm.unprotect(this.vm.guest.gfnOf(address));
        outcome = { result: "emulate", unprotected: true };
      }
    }
    this.vm.events.collect(this.cpu.id, this.#high);
    return outcome;
  }

  /** Error code of the last guest walk that failed. */
  get injectedCode(): number {
    return this.#core.record.gwError;
  }

  /** What L1 sees of the fault of its second stage that the last walk met; see InjectedFault. `real`: of the processor's exit. */
  #exitInfo(onTable: boolean, real?: bigint): bigint | undefined {
    const { record } = this.#core;
    if (!this.cpu.guestMmu.isEpt) return BigInt(record.gwError) | (onTable ? GUEST_PAGE : GUEST_FINAL);
    if (record.gwError & PFERR.rsvd) return undefined;
    const linear = real === undefined ? GVA_VALID | (onTable ? 0n : GVA_FINAL) : real & (GVA_VALID | GVA_FINAL);
    const advanced = this.vm.advancedExitInformation ? (real ?? 0n) & ADVANCED : 0n;
    return BigInt(record.gwQualification) | linear | advanced;
  }

  /** See Vcpu.pageReady. */
  pageReady(gfn: bigint): boolean {
    const wait = this.#async.take(gfn);
    if (wait === undefined) return false;
    const { address } = wait;
    const pgd = this.cpu.isDirect ? undefined : this.cpu.mmu.pgd;
    // Other bits may be alias bits now, and then the address is another page's.
    const same = pgd === undefined ? this.vm.guest.gfnOf(address) === gfn : true;
    if (same && wait.pgd === pgd && enterGuest(this.vm, this.cpu)) {
      if (!this.vm.pages.caches.stocked) this.stock();
      // What an execute-only alias maps is nothing to read.
      const fetches = pgd === undefined && (address & this.vm.limits.executeOnlyAliases) !== 0n;
      this.attend(this.#core.fault(address, fetches ? PFERR.fetch : 0, 1));
      this.vm.events.collect(this.cpu.id);
    }
    return true;
  }

  /** See Vcpu.waits. */
  get waits(): readonly AsyncFault[] {
    return this.#async.waits;
  }

  /** See Vcpu.injectFault. */
  inject({ errorCode, address, nested = false }: InjectedFault): void {
    const context = nested ? this.cpu.mmu : this.cpu.walkMmu;
    if (errorCode & PFERR.p && !(errorCode & PFERR.rsvd)) {
      invalidateThrough(this.vm, this.cpu, context, context.roots.current.page, address);
    }
    if (nested && this.cpu.mmu.isEpt) invalidateNestedEpt(this.vm, this.cpu, address);
  }

  /** See Vcpu.walk. */
  walk(address: bigint, code: number): WalkOutcome {
    const { vm } = this;
    const { walkMmu, registers } = this.cpu;
    const { record } = this.#core;
    this.cpu.checkLinear(address);
    // Under two-dimensional paging CR0.WP can change without an exit: the context follows when rights are checked.
    const stale = vm.tdp !== undefined && walkMmu.writeProtect !== isWriteProtect(registers);
    if (stale) walkMmu.refreshWriteProtect(vm.limits, registers);
    if (vm.tdp !== undefined && isPaePaging(registers)) refreshPdptes(vm, this.cpu, registers.cr3);
    const ok = this.#core.walkGuest(walkMmu.core, address, code);
    const checked = record.gwChecked !== 0;
    if (stale && !checked) walkMmu.refreshWriteProtect(vm.limits, registers);
    if (ok) return { ok: true, gpa: record.gwGpa };
    const errorCode = record.gwError;
    if (record.gwNested === 0) return { ok: false, errorCode, address, nested: false };
    const exitInfo = this.#exitInfo(record.gwOnTable !== 0);
    const exit = exitInfo === undefined ? {} : { exitInfo };
    return { ok: false, errorCode, address: record.gwFault, nested: true, ...exit };
  }
}
