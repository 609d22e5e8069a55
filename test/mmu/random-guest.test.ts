/**
 * Random guests. After each operation, what the processor finds in the shadow tables must be what the guest's own tables
 * and the memslots allow, now or at some time since the last flush that the guest made for that address: never more.
 * SEQUENCES sets how many sequences of 100 operations are run (nightly: 2000 and more).
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import type { Vcpu } from "../../src/mmu/index.js";
import { roleLevel } from "../../src/role/index.js";
import { core, FULL, Guest, HIGH_PAGES, HIGH_SLOT, MMIO_GPA, type Mode, RAM_PAGES, registersOf } from "./guest.js";

const SEQUENCES = Number(process.env.SEQUENCES ?? 60);
const OPERATIONS = 100;
const AUDIT_EVERY = 10;

const ACCESSES = [
  Access.Read,
  Access.Write,
  Access.Fetch,
  Access.Read | Access.User,
  Access.Write | Access.User,
  Access.Fetch | Access.User,
];
const DATA = 0x20_0000n;
const READ_ONLY_GPA = 0x9000_0000n;
const NX = 1n << 63n;
const RESERVED = 1n << 50n;

const MODES: readonly Mode[] = ["nopg", "32", "pae", "4level", "5level"];

/** Addresses that are looked at: two level-1 tables, a region of large pages. */
const PROBES = [0x40_0000n, 0x40_1000n, 0x40_5000n, 0x60_0000n, 0x60_2000n, 0x4000_0000n, 0x4020_3000n, 0x20_0000n];
/** The guest reaches its tables through addresses from here on; no entry on the way to them is ever edited. */
function windowOf(mode: Mode): bigint {
  if (mode === "5level") return 1n << 48n;
  return mode === "4level" ? 1n << 39n : 0x8000_0000n;
}

type Step = readonly [kind: number, a: number, b: number, c: number];

class World {
  readonly guest: Guest;
  readonly roots: bigint[] = [];
  readonly tables: { address: bigint; level: number }[] = [];
  readonly vcpus: Vcpu[] = [];
  /** By vCPU, probe and access: gfns that a translation may lead to. */
  readonly #allowed = new Map<string, Set<bigint>>();
  readonly #mode: Mode;

  constructor(mode: Mode, minimumRootLevel: 3 | 4 | 5, wp: boolean, defaultPaePdpte: boolean) {
    this.#mode = mode;
    this.guest = new Guest({ minimumRootLevel, defaultPaePdpte, maxHugeLevel: 3 });
    const { guest } = this;
    guest.mode = mode;
    const ram = guest.vm.createRam(0x4000);
    guest.vm.setSlot({ id: 5, gpa: READ_ONLY_GPA, size: 0x4000, ram, readOnly: true });
    if (mode !== "nopg") this.#build();
    for (let i = 0; i < 2; i++) {
      const vcpu = guest.vm.createVcpu(registersOf(mode, this.roots[i % Math.max(this.roots.length, 1)] ?? 0n, { wp }));
      guest.vcpu ??= vcpu;
      this.vcpus.push(vcpu);
    }
    for (const vcpu of this.vcpus) this.flush(vcpu);
  }

  #build(): void {
    const { guest } = this;
    for (let r = 0; r < 3; r++) {
      const root = guest.table();
      this.roots.push(root);
      for (const probe of PROBES) {
        guest.map(root, probe, DATA + (probe & 0xf_f000n));
      }
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

  #key(vcpu: Vcpu, probe: bigint, access: number): string {
    return `${vcpu.id} ${probe} ${access}`;
  }

  /** What the guest's own tables and the slots allow now. */
  #own(vcpu: Vcpu, probe: bigint, access: number): bigint | undefined {
    if (this.#mode === "nopg") return this.#visible(probe >> 12n, access);
    const found = this.ownTranslation(vcpu, probe, access);
    return found.ok ? this.#visible(found.pa >> 12n, access) : undefined;
  }

  #visible(gfn: bigint, access: number): bigint | undefined {
    const slot = this.guest.vm.slots.visible(0, gfn);
    if (slot === undefined) return undefined;
    return access & Access.Write && slot.flags & 2 ? undefined : gfn;
  }

  ownTranslation(vcpu: Vcpu, probe: bigint, access: number) {
    const { cr0, cr3, cr4, efer } = vcpu.registers;
    const pdptes = this.#mode === "pae" ? { pdpteValues: vcpu.rootMmu.pdptes as [bigint, bigint, bigint, bigint] } : {};
    const space = core().createAddressSpace(this.#guestMemory(), {
      cr0,
      cr3,
      cr4,
      efer,
      maxPhysAddr: 46,
      rules: "kvm-6.1",
      ...pdptes,
    });
    const found = space.translate(probe, access | Access.Probe);
    space.dispose();
    return found;
  }

  #memory: ReturnType<ReturnType<typeof core>["createMemory"]> | undefined;
  #guestMemory() {
    this.#memory ??= core().createMemory({
      slots: [
        { gpa: 0n, size: RAM_PAGES * 4096, linear: this.guest.ram },
        { gpa: HIGH_SLOT, size: HIGH_PAGES * 4096, linear: this.guest.high },
      ],
    });
    return this.#memory;
  }

  #record(vcpu: Vcpu, probe: bigint, access: number): void {
    const key = this.#key(vcpu, probe, access);
    const gfn = this.#own(vcpu, probe, access);
    let set = this.#allowed.get(key);
    if (set === undefined) {
      set = new Set();
      this.#allowed.set(key, set);
    }
    if (gfn !== undefined) set.add(gfn);
  }

  /** The vCPU has flushed everything: only what is so now may be found from here on. */
  flush(vcpu: Vcpu): void {
    for (const probe of PROBES) this.flushPage(vcpu, probe);
  }

  flushPage(vcpu: Vcpu, probe: bigint): void {
    for (const access of ACCESSES) this.#allowed.delete(this.#key(vcpu, probe, access));
  }

  /** Looks at every probe through the shadow tables. */
  check(): void {
    const { guest } = this;
    for (const vcpu of this.vcpus) {
      for (const probe of PROBES) for (const access of ACCESSES) this.#record(vcpu, probe, access);
      vcpu.enterGuest();
      const space = this.#hardware(vcpu);
      for (const probe of PROBES) {
        for (const access of ACCESSES) {
          const found = space.translate(probe, access);
          if (!found.ok) continue;
          const gfn = guest.gfnOf(found.pa);
          const allowed = this.#allowed.get(this.#key(vcpu, probe, access))!;
          if (gfn === undefined || !allowed.has(gfn)) {
            const list = [...allowed].map((one) => one.toString(16)).join(" ");
            throw new Error(
              `vCPU ${vcpu.id}: ${probe.toString(16)} access ${access} leads to gfn ${gfn?.toString(16)}, allowed: ${list}`,
            );
          }
          if (access & Access.Write) this.#checkDirty(gfn);
        }
      }
      space.dispose();
    }
  }

  /** A page that the guest can write unnoticed is in the dirty log already. */
  #checkDirty(gfn: bigint): void {
    const slot = this.guest.vm.slots.visible(0, gfn)!;
    if ((slot.flags & 1) === 0) return;
    const page = Number(gfn - slot.base);
    const byte = this.guest.vm.linear.u8[slot.dirty + (page >> 3)]!;
    if (((byte >> (page & 7)) & 1) === 0)
      throw new Error(`gfn ${gfn.toString(16)} is writable and not in the dirty log`);
  }

  #hardwareMemory: ReturnType<ReturnType<typeof core>["createMemory"]> | undefined;
  #hardwareSize = 0;

  #hardware(vcpu: Vcpu) {
    const size = core().linearMemory.buffer.byteLength;
    if (size !== this.#hardwareSize) {
      this.#hardwareMemory?.dispose();
      this.#hardwareMemory = core().createMemory({
        slots: [
          { gpa: 0n, size, linear: 0, readOnly: true },
          { gpa: 1n << 32n, size, linear: 0, readOnly: true },
        ],
      });
      this.#hardwareSize = size;
    }
    const { role, hostAddress } = this.guest.vm.page(vcpu.roots.current.page);
    const level = roleLevel(role);
    return core().createAddressSpace(this.#hardwareMemory!, {
      cr0: 0x8001_0001n,
      cr3: hostAddress,
      cr4: level === 5 ? 0x1020n : 0x20n,
      efer: level === 3 ? 0x800n : 0xd00n,
      maxPhysAddr: 46,
    });
  }

  step([kind, a, b, c]: Step): void {
    const { guest } = this;
    const vcpu = this.vcpus[a % 2]!;
    const probe = PROBES[b % PROBES.length]!;
    guest.vcpu = vcpu;
    const what = kind % 16;
    if (what < 4) this.#touch(vcpu, probe, ACCESSES[c % ACCESSES.length]!);
    else if (what < 7) this.#edit(vcpu, b, c);
    else if (what === 7) {
      vcpu.invlpg(probe);
      this.flushPage(vcpu, probe);
    } else if (what < 12) {
      this.#writeRegister(vcpu, what, b);
      this.flush(vcpu);
    } else this.#changeMemory(what, b, c);
  }

  /** Register writes that flush everything. */
  #writeRegister(vcpu: Vcpu, what: number, b: number): void {
    if (what < 10) vcpu.writeCr3(this.roots[b % this.roots.length] ?? BigInt(b % 16) << 12n);
    else if (what === 10 && this.#mode !== "nopg") vcpu.writeCr0(vcpu.registers.cr0 ^ 0x10000n);
    else vcpu.writeCr4(vcpu.registers.cr4 ^ 0x80n);
  }

  /** What the VMM and the host do. */
  #changeMemory(what: number, b: number, c: number): void {
    const { vm, high } = this.guest;
    const exists = vm.slots.find(0, 1) !== undefined;
    const highSlot = { id: 1, gpa: HIGH_SLOT, ram: high, hva: 0x7f40_0000_0000n, size: HIGH_PAGES * 4096 };
    if (what === 12) {
      const slot = b % 2 === 0 || !exists ? { id: 0, gpa: 0n, size: RAM_PAGES * 4096 } : highSlot;
      vm.setSlot({ ...slot, logDirty: c % 2 === 0 });
    } else if (what === 13 && b % 2 === 0) {
      const start = 0x7f00_0000_0000n + DATA;
      vm.unmapRange(start, start + (BigInt(c % 32) << 12n) + 0x1000n);
    } else if (what === 13) vm.age(0x7f00_0000_0000n, 0x7f80_0000_0000n);
    else if (what === 14) vm.setSlot({ ...highSlot, size: exists ? 0 : highSlot.size });
    else for (const slot of vm.slots.slots) if (slot.flags & 1) vm.getDirtyLog(slot.id);
  }

  #touch(vcpu: Vcpu, probe: bigint, access: number): void {
    const result = this.guest.access(probe, access, vcpu);
    if (result === "loop") throw new Error(`access ${access} to ${probe.toString(16)} never ends`);
    if (!result.startsWith("#PF")) return;
    const own = this.ownTranslation(vcpu, probe, access);
    expect(own.ok ? "ok" : `#PF ${own.errorCode.toString(16)}`).toBe(result);
  }

  /** The guest writes one entry of one of its tables through that table's window. */
  #edit(vcpu: Vcpu, b: number, c: number): void {
    const { guest } = this;
    if (this.tables.length === 0) return;
    const at = b % this.tables.length;
    const { address, level } = this.tables[at]!;
    const entryAddress = guest.entryAddress(address, PROBES[(b >>> 4) % PROBES.length]!, level);
    const lower = this.tables.filter((table) => table.level === level - 1);
    const next = lower[(c >>> 8) % Math.max(lower.length, 1)];
    let entry: bigint;
    if (level > 1 && next !== undefined && c % 4 !== 0) entry = next.address | (FULL & ~0x40n);
    else if (level === 2 && c % 8 === 0) entry = HIGH_SLOT | FULL | 0x80n;
    else if (level > 1) entry = 0n;
    else {
      const targets = [
        DATA + (BigInt((c >>> 4) % 64) << 12n),
        this.tables[(c >>> 4) % this.tables.length]!.address,
        HIGH_SLOT + 0x3000n,
        READ_ONLY_GPA,
        MMIO_GPA,
      ];
      const flags = [FULL, FULL & ~2n, FULL & ~4n, FULL & ~0x20n, FULL & ~0x40n, 0n, FULL | NX, FULL | RESERVED];
      let chosen = flags[(c >>> 10) % flags.length]!;
      if (this.#mode === "32") chosen &= 0xfffn;
      entry = targets[c % targets.length]! | chosen;
    }
    const result = guest.write(
      windowOf(this.#mode) + (BigInt(at) << 12n) + (entryAddress & 0xfffn),
      entryAddress,
      entry,
      vcpu,
    );
    if (result !== "ok" && result !== "emulate") throw new Error(`the window of table ${at} gives ${result}`);
  }

  dispose(): void {
    this.#memory?.dispose();
    this.#hardwareMemory?.dispose();
    this.guest.dispose();
  }
}

const sequence = fc.record({
  mode: fc.constantFrom(...MODES),
  level: fc.constantFrom(3 as const, 4 as const, 5 as const),
  wp: fc.boolean(),
  defaultPaePdpte: fc.boolean(),
  steps: fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.nat()), { minLength: OPERATIONS, maxLength: OPERATIONS }),
});

describe("random guests", () => {
  it(`never reach more than their tables and slots allow (${SEQUENCES} sequences of ${OPERATIONS} operations)`, {
    timeout: 3_600_000,
  }, () => {
    fc.assert(
      fc.property(sequence, ({ mode, level, wp, defaultPaePdpte, steps }) => {
        const world = new World(mode, level, wp, defaultPaePdpte);
        try {
          world.check();
          steps.forEach((step, i) => {
            try {
              world.step(step);
              world.check();
            } catch (error) {
              throw new Error(
                `operation ${i} (${step.map((one, n) => (n === 0 ? one % 16 : one)).join(" ")}): ${error}`,
              );
            }
            if (i % AUDIT_EVERY === 0 || i === steps.length - 1) expect(world.guest.vm.audit()).toEqual([]);
          });
          expect(world.guest.vm.counter("SYNC_MISMATCH")).toBe(0);
          expect(world.guest.vm.counter("BROKEN")).toBe(0);
        } finally {
          world.dispose();
        }
      }),
      {
        numRuns: SEQUENCES,
        endOnFailure: true,
        unbiased: true,
        ...(process.env.SEED === undefined ? {} : { seed: Number(process.env.SEED) }),
      },
    );
  });
});
