/** The playground's machine: accesses, its TLB, links, KVM's shadow, and exercises that are not done before they are. */
import { afterEach, describe, expect, it } from "vitest";
import { EXERCISES } from "../../web/engine/play/exercise-list.js";
import type { PlayAccess } from "../../web/engine/play/machine.js";
import { type PlayAct, PlaySession, type PlayShown } from "../../web/engine/play/session.js";
import { beginning, linkOf, MODES, setupOf } from "../../web/engine/play/setup.js";

const WP = 1n << 16n;
const SMEP = 1n << 20n;

class Player {
  readonly session = new PlaySession();
  shown: PlayShown;

  constructor(link: Record<string, string> = {}, exercise?: string) {
    this.shown = this.session.act({ do: "begin", link, exercise });
  }

  act(act: PlayAct): this {
    this.shown = this.session.act(act);
    return this;
  }

  access(address: bigint, kind: PlayAccess["kind"], user = false): this {
    return this.act({ do: "access", access: { address, kind, user, ac: false } });
  }

  entry(address: number, entry: bigint): this {
    return this.act({ do: "entry", address, entry });
  }

  register(name: "cr0" | "cr3" | "cr4" | "efer", change: (old: bigint) => bigint = (old) => old): this {
    return this.act({ do: "register", name, value: change(this.shown.registers[name]) });
  }

  get result() {
    return this.shown.result!;
  }
}

let player: Player;
afterEach(() => {
  player = undefined as never;
});

describe.each(MODES)("the machine in %s", (mode) => {
  it("reads a page, sets accessed flags once, and hits its TLB then", () => {
    player = new Player({ mode }).access(0x4123n, "read", true);
    expect(player.result).toMatchObject({ tlb: "miss", pa: 0x104123n, pageSize: 4096, fault: undefined });
    expect(player.result.flags.map(({ flag }) => flag)).not.toContain("D");
    expect(player.result.flags.at(-1)).toMatchObject({ entry: "PTE", flag: "A" });
    expect(player.access(0x4fffn, "read", true).result).toMatchObject({ tlb: "hit", pa: 0x104fffn, flags: [] });
    // The dirty flag needs a walk.
    expect(player.access(0x4000n, "write", true).result).toMatchObject({
      tlb: "miss",
      flags: [{ entry: "PTE", flag: "D" }],
    });
    expect(player.access(0x4000n, "write", true).result.tlb).toBe("hit");
  });

  it("says which check refuses, with the error code's reasons", () => {
    player = new Player({ mode }).access(0x6000n, "read", true);
    expect(player.result.fault).toMatchObject({ vector: 14, errorCode: 5n });
    expect(player.result.checks.at(-1)).toMatchObject({ passed: false, subject: "PTE" });
    expect(player.result.fault!.reasons).toContain("U=1: a user-mode access");
    expect(player.result.flags).toEqual([]);
  });

  it("keeps a stale translation until INVLPG or a write to CR3", () => {
    for (const forget of [() => player.act({ do: "invlpg", address: 0x4000n }), () => player.register("cr3")]) {
      player = new Player({ mode }).access(0x4000n, "read", true);
      const table = player.shown.tables.find(({ level }) => level === 1)!;
      const { address, entry } = table.entries.find(({ index }) => index === 4)!;
      player.entry(address, entry + 0x6000n).access(0x4000n, "read", true);
      expect(player.result).toMatchObject({ tlb: "hit", pa: 0x104000n, stale: true });
      forget();
      expect(player.access(0x4000n, "read", true).result).toMatchObject({ tlb: "miss", pa: 0x10a000n, stale: false });
    }
  });

  it("keeps what an access showed when the machine is changed, and says that it is of before", () => {
    player = new Player().access(0x5000n, "write");
    const { shadow, before } = player.shown;
    expect(player.shown).toMatchObject({ outdated: false, before: player.shown.registers });
    player.register("cr0", (cr0) => cr0 & ~WP);
    expect(player.shown).toMatchObject({ outdated: true, shadow, before });
    expect(player.access(0x5000n, "write").shown).toMatchObject({ outdated: false, shadow: { outcome: "fixed" } });
    expect(player.act({ do: "begin", link: {} }).shown).toMatchObject({ outdated: false, shadow: undefined });
  });

  it("shows what KVM's shadow makes of a supervisor's write to a read-only page with CR0.WP=0", () => {
    player = new Player({ mode }).access(0x5000n, "write");
    expect(player.result.fault?.errorCode).toBe(3n);
    expect(player.shown.shadow).toMatchObject({ outcome: "inject", injected: { errorCode: 3 } });
    player.register("cr0", (old) => old & ~WP).access(0x5000n, "write");
    expect(player.result.fault).toBeUndefined();
    expect(player.result.checks.at(-1)).toMatchObject({ passed: true, factors: "PTE.RW=0 CR0.WP=0" });
    expect(player.shown.shadow!.outcome).toBe("fixed");
    const leaf = player.shown.shadow!.steps.at(-1)!;
    // Writable, and no longer the user's.
    expect(leaf.spte & 7n).toBe(3n);
    expect(player.shown.shadow!.events.at(-1)).toMatch(/^kvm_mmu_set_spte: gfn 105 spte .* \(rw[x-]-\) level 1/);
    expect(player.access(0x5000n, "read", true).shown.shadow!.steps.at(-1)!.spte & 7n).toBe(5n);
  });

  it("stands whole in a link", () => {
    player = new Player({ mode }).entry(0x1000, 0n).register("cr4", (old) => old | SMEP);
    const again = new Player({ ...player.shown.link });
    expect(again.shown.link).toEqual(player.shown.link);
    expect(again.shown.registers).toEqual(player.shown.registers);
    expect(again.access(0x4000n, "read", true).result.fault?.errorCode).toBe(4n);
    expect(linkOf(beginning(mode))).toEqual({ mode });
  });

  it("refuses what no processor takes, and keeps what is", () => {
    player = new Player({ mode });
    const before = player.shown.registers;
    expect(() => player.register("cr0", (old) => old & ~1n)).toThrow(/CR0/);
    expect(() => player.entry(3, 0n)).toThrow(RangeError);
    expect(() => player.entry(1 << 22, 0n)).toThrow(RangeError);
    expect(player.access(0x4000n, "read", true).shown.registers).toEqual(before);
  });
});

it("changes nothing where a link means no machine", () => {
  player = new Player();
  for (const link of [
    { words: "zz-1" },
    { words: "1001-1" },
    { words: "400000-1" },
    { cr0: "x" },
    { cr0: "80000000" },
  ]) {
    expect(() => player.act({ do: "begin", link })).toThrow();
    expect(player.access(0x4000n, "read", true).result.pa).toBe(0x104000n);
  }
  expect(setupOf({ mode: "no such mode" }).mode).toBe("4level");
});

it("looks through tables that lead to each other", () => {
  player = new Player({ mode: "4level", words: "1000-1007.2000-1007" });
  expect(player.shown.tables.length).toBeLessThan(30);
});

describe("an exercise", () => {
  /** How each is done. */
  const SOLUTIONS: Record<string, (player: Player) => void> = {
    map: (player) => player.entry(0x4048, 0x109005n).access(0x9000n, "read", true),
    execute: (player) => player.entry(0x4020, 0x104005n),
    "write-protect": (player) => player.register("cr0", (old) => old & ~WP).access(0x5000n, "write"),
    stale: (player) =>
      player
        .access(0x6000n, "read")
        .entry(0x4030, 0x10a003n)
        .access(0x6000n, "read")
        .act({ do: "invlpg", address: 0x6000n })
        .access(0x6000n, "read"),
    "accessed-dirty": (player) => player.access(0x4000n, "write", true),
    smep: (player) => player.register("cr4", (old) => old | SMEP).access(0x8000n, "fetch"),
    reserved: (player) =>
      player
        .entry(0x4020, 0x87n | (1n << 63n))
        .register("efer", (old) => old & ~(1n << 11n))
        .access(0x4000n, "read"),
    large: (player) => player.entry(0x3010, 0x200083n).access(0x400000n, "write"),
    pdpte: (player) => player.entry(0x1008, 0x3001n).register("cr3").access(0x40004000n, "read", true),
    "self-map": (player) => player.entry(0x1ffc, 0x1003n),
  };

  it.each(EXERCISES.map(({ id }) => [id]))("%s is not done at the beginning, and can be", (id) => {
    const { link } = EXERCISES.find((one) => one.id === id)!;
    player = new Player({ ...link }, id);
    expect(player.shown).toMatchObject({ exercise: id, solved: false });
    player.access(0xa000n, "read");
    expect(player.shown.solved).toBe(false);
    SOLUTIONS[id]!(player);
    expect(player.shown.solved).toBe(true);
    // Once done, it stays so.
    expect(player.access(0xa000n, "read").shown.solved).toBe(true);
  });

  it("does not take a way that misses the point", () => {
    player = new Player({}, "write-protect").entry(0x4028, 0x105007n).access(0x5000n, "write");
    expect(player.shown.solved).toBe(false);
    player = new Player({ mode: "pae" }, "pdpte").entry(0x1008, 0x3001n).access(0x40004000n, "read", true);
    expect(player.result.fault?.errorCode).toBe(4n);
    expect(player.shown.solved).toBe(false);
  });
});
