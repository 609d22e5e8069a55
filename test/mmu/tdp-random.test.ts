/**
 * Random machines with the TDP MMU. After each access that the tables allow, they lead to the page that the host has behind
 * the address now, with no more rights than the host gives; an address without a slot never leads to memory.
 * SEQUENCES sets how many random sequences are run per configuration.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Vcpu } from "../../src/mmu/index.js";
import { type Access, FORMATS, type Format, LARGE_GPA, LARGE_PAGES, SMALL_PAGES, TdpGuest } from "./tdp-guest.js";

const SEQUENCES = Number(process.env.SEQUENCES ?? 25);
const OPERATIONS = 120;
const AUDIT_EVERY = 20;
const ADDRESS = 0x000f_ffff_ffff_f000n;
const ACCESSES: readonly Access[] = ["read", "write", "exec"];
/** Where slot 1 may lie; at the second place no large page can be made. */
const PLACES = [LARGE_GPA, LARGE_GPA + 0x8000_1000n, LARGE_GPA + 0x1_0000_0000n];

type Step = readonly [kind: number, a: number, b: number];

class Machine {
  readonly guest: TdpGuest;
  readonly vcpus: readonly Vcpu[];
  /** Where slot 1 lies; undefined where it is deleted. */
  #place: bigint | undefined = LARGE_GPA;
  #logging = false;
  readonly #nx: boolean;

  constructor(format: Format, nxHugePages: boolean) {
    this.#nx = nxHugePages;
    this.guest = new TdpGuest(format, { nxHugePages });
    this.guest.vm.setSlot({ ...this.guest.slot(0), addressSpace: 1 });
    this.vcpus = [this.guest.vcpu, this.guest.newVcpu()];
  }

  /** Host-virtual address behind `gpa`, undefined where there is no slot. */
  #hva(gpa: bigint, vcpu: Vcpu): bigint | undefined {
    if (gpa < BigInt(SMALL_PAGES) << 12n) return this.guest.hva(gpa);
    const place = this.#place;
    const inside = place !== undefined && gpa >= place && gpa < place + (BigInt(LARGE_PAGES) << 12n);
    return inside && !vcpu.inSmm ? this.guest.hva(LARGE_GPA) + gpa - place : undefined;
  }

  #gpa(a: number, b: number): bigint {
    const near = BigInt(a % 3 === 0 ? b % SMALL_PAGES : b % 24) << 12n;
    return a & 4 ? near : PLACES[b % 3]! + near;
  }

  run([kind, a, b]: Step): void {
    const { guest } = this;
    const vcpu = this.vcpus[a & 1]!;
    const gpa = this.#gpa(a >> 1, b);
    const hva = this.#hva(gpa, vcpu);
    if (kind < 55) this.#access(gpa, ACCESSES[b % 3]!, vcpu);
    else if (kind < 62 && hva !== undefined) guest.vm.unmapRange(hva, hva + (BigInt((a % 8) + 1) << 12n));
    else if (kind < 70 && hva !== undefined) this.#moveFrame(hva, (a & 2) !== 0);
    else if (kind < 75 && hva !== undefined) guest.vm.age(hva, hva + 0x4000n);
    else if (kind < 80) this.#moveSlot(b);
    else if (kind < 85) this.#log();
    else if (kind < 90) guest.vm.recoverHugePages(a % 4);
    else if (kind < 95) this.#smm(vcpu);
    else if (!vcpu.inSmm) guest.toggleNested(vcpu);
  }

  #access(gpa: bigint, access: Access, vcpu: Vcpu): void {
    const { guest } = this;
    const hva = this.#hva(gpa, vcpu);
    const result = guest.access(gpa, access, vcpu);
    if (hva === undefined) {
      expect(["emulate", "mmio"]).toContain(result);
      expect(guest.leaf(gpa, vcpu)).toBeUndefined();
      return;
    }
    expect(result).toBe("ok");
    const { spte, level } = guest.leaf(gpa, vcpu)!;
    const inside = ((1n << BigInt(9 * (level - 1))) - 1n) & (gpa >> 12n);
    expect(((spte & ADDRESS) >> 12n) + inside).toBe(guest.frame(hva));
    if (spte & 2n) expect(guest.shared.has(hva & ~0xfffn)).toBe(false);
    if (this.#nx && level > 1) expect(access).not.toBe("exec");
    if (this.#logging && access === "write" && gpa >= LARGE_GPA) expect(level).toBe(1);
  }

  /** The host puts another page behind an address, inside an invalidation or (if `shared`) by a read-only change. */
  #moveFrame(hva: bigint, shared: boolean): void {
    const { guest } = this;
    // The host splits its own large page first.
    if (hva >= guest.hva(LARGE_GPA)) return;
    const page = hva & ~0xfffn;
    const pfn = guest.moveFrame(page);
    if (shared) {
      guest.shared.add(page);
      guest.vm.changePage(page, { pfn, writable: false, level: 1 });
    } else guest.vm.unmapRange(page, page + 0x1000n);
  }

  #moveSlot(b: number): void {
    const { vm } = this.guest;
    const place = PLACES[b % 4];
    const slot = this.guest.slot(1, this.#logging);
    if (place === undefined && this.#place !== undefined) vm.setSlot({ id: 1, gpa: this.#place, size: 0 });
    else if (place !== undefined) vm.setSlot({ ...slot, gpa: place });
    this.#place = place;
  }

  #log(): void {
    this.#logging = !this.#logging;
    if (this.#place !== undefined) {
      this.guest.vm.setSlot({ ...this.guest.slot(1, this.#logging), gpa: this.#place });
    }
  }

  #smm(vcpu: Vcpu): void {
    if (vcpu.inGuestMode) return;
    if (vcpu.inSmm) vcpu.leaveSmm(this.guest.registers);
    else vcpu.enterSmm();
  }
}

const step = fc.tuple(fc.nat(99), fc.nat(255), fc.nat(4095));
const CASES = FORMATS.flatMap((format) => [false, true].map((nx) => [format, nx] as const));

describe.each(CASES)("a random machine (%s, NX-huge-page mitigation %s)", (format, nx) => {
  it("reaches the host's pages and nothing else", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: OPERATIONS, maxLength: OPERATIONS }), (steps) => {
        const machine = new Machine(format, nx);
        try {
          steps.forEach((one, i) => {
            machine.run(one);
            if (i % AUDIT_EVERY === 0) expect(machine.guest.vm.audit()).toEqual([]);
          });
          expect(machine.guest.vm.audit()).toEqual([]);
        } finally {
          machine.guest.dispose();
        }
      }),
      { numRuns: SEQUENCES },
    );
  });
});
