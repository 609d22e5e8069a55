/** What KVM's shadow MMU makes of an access of the playground's guest: a VM of its own each time, from the guest's memory. */
import type { Core } from "x86-paging";
import { bitOf, PFERR } from "x86-paging/abi";
import { type ShadowPage, VirtualMachine } from "x86-paging/mmu";
import { printEvent, TEXT_KINDS } from "x86-paging/recording";
import { decodeRole, layoutOf, roleTraceText, splitRole } from "x86-paging/role";
import { spteLayoutOfKernel } from "x86-paging/spte";
import { RAM, type Registers } from "./setup.js";

/** One access, as a fault of the processor tells it: bits of the error code. */
export interface ShadowAccess {
  readonly address: bigint;
  readonly write: boolean;
  readonly user: boolean;
  readonly fetch: boolean;
}

/** An entry that the shadow has on the way to the address. */
export interface ShadowStep {
  readonly level: number;
  readonly spte: bigint;
  readonly role: number;
  readonly roleText: string;
  /** Frame of the guest's table that the page stands for, or first frame of what a direct page maps. */
  readonly gfn: bigint;
  readonly direct: boolean;
}

export interface ShadowResult {
  /** How the fault ended: `fixed`, `spurious`, `inject`, ... */
  readonly outcome: string;
  readonly injected?: { readonly errorCode: number; readonly address: bigint };
  /** The kernel's trace of it. */
  readonly events: readonly string[];
  /** From the root down. */
  readonly steps: readonly ShadowStep[];
  /** Every page, by its role. */
  readonly pages: readonly {
    readonly gfn: bigint;
    readonly role: number;
    readonly roleText: string;
    readonly entries: number;
  }[];
}

const PROJECT = layoutOf("project");
const [W, U, I] = ["W", "U", "I"].map((name) => Number(bitOf(PFERR, name))) as [number, number, number];
/** Bits of an SPTE that are its address. */
const ADDRESS = bitOf(spteLayoutOfKernel("6.1").software, "ADDRESS");

/** Runs the accesses, one after the other, and tells of the last. Throws where KVM would refuse the registers. */
export function shadowOf(
  core: Core,
  memory: Uint8Array,
  registers: Registers,
  accesses: readonly ShadowAccess[],
): ShadowResult {
  const vm = new VirtualMachine(core, { paging: "shadow", eventCapacity: 2000 });
  try {
    vm.setSlot({ id: 0, gpa: 0n, size: RAM, ram: vm.createRam(RAM), hva: 0x7f0000000000n });
    vm.writeGuest(0n, memory);
    const vcpu = vm.createVcpu(registers);
    if (!vcpu.enterGuest())
      return { outcome: "triple fault: the root table lies in no memory", events: [], steps: [], pages: [] };
    let events: string[] = [];
    vm.events.sink = (event) => {
      if (event.ev !== "lost_events" && TEXT_KINDS.has(event.ev)) events.push(`${event.ev}: ${printEvent(event)}`);
    };
    let outcome = vcpu.pageFault(accesses[0]!.address, codeOf(accesses[0]!));
    for (const access of accesses.slice(1)) {
      events = [];
      outcome = vcpu.pageFault(access.address, codeOf(access));
    }
    const root = vcpu.roots().find(({ active }) => active)?.current?.page;
    const all = vm.allPages();
    return {
      outcome: outcome.result,
      ...(outcome.result === "inject" && {
        injected: { errorCode: outcome.errorCode, address: BigInt.asUintN(64, BigInt(outcome.address)) },
      }),
      events,
      steps: root === undefined ? [] : stepsOf(all, root, accesses.at(-1)!.address),
      pages: all.map(({ gfn, role, entries }) => ({ gfn, role, roleText: roleTraceText(role), entries: entries.size })),
    };
  } finally {
    vm.dispose();
  }
}

function codeOf({ write, user, fetch }: ShadowAccess): number {
  return (write ? W : 0) | (user ? U : 0) | (fetch ? I : 0);
}

/** Goes down from the root by the address, over ordinary pages. */
function stepsOf(pages: readonly ShadowPage[], root: number, address: bigint): ShadowStep[] {
  const steps: ShadowStep[] = [];
  let page = pages.find(({ pointer }) => pointer === root);
  while (page !== undefined) {
    const { role, gfn, entries } = page;
    const { level, direct, pae_root } = decodeRole(PROJECT, splitRole(BigInt(role))).base.fields as Record<
      string,
      number
    >;
    // A PAE root has four entries, for two bits of the address.
    const index = Number((address >> BigInt(12 + 9 * (level! - 1))) & (pae_root ? 3n : 511n));
    const spte = entries.get(index);
    if (spte === undefined) break;
    steps.push({ level: level!, spte, role, roleText: roleTraceText(role), gfn, direct: direct === 1 });
    if (level === 1) break;
    const below = spte & ADDRESS;
    page = pages.find(({ hostAddress }) => hostAddress === below);
  }
  return steps;
}
