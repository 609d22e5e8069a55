/** The guest's tables change while the host is asked for a page: another vCPU edits them behind a fault's back. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import type { HostPage } from "../../src/mmu/index.js";
import { bytesOf, Guest, type Mode, registersOf } from "./guest.js";

const GVA = 0x40_3000n;
const OLD = 0x20_0000n;
const NEW = 0x30_0000n;
const ADDRESS = 0x000f_ffff_ffff_f000n;

/** Frames of the host: RAM's page number, far up. */
const page = (hva: bigint): HostPage => ({ pfn: 0x10_0000n + ((hva >> 12n) & 0xf_ffffn), writable: true, level: 1 });

function racing(mode: Mode) {
  let edit: (() => void) | undefined;
  const guest = new Guest({
    hostMemory: {
      pin: (hva) => {
        const now = edit;
        edit = undefined;
        now?.();
        return page(hva);
      },
      peek: () => undefined,
    },
  });
  guest.mode = mode;
  const root = guest.table();
  guest.map(root, GVA, OLD);
  // The same tables once more, down to another page.
  const other = guest.table();
  guest.map(other, GVA, NEW);
  guest.start(mode, root);
  const second = guest.vm.createVcpu(registersOf(mode, root));
  second.enterGuest();
  return { guest, root, other, second, editInPin: (act: () => void) => (edit = act) };
}

/** Address of the entry for GVA at `level`. */
function entryAt(guest: Guest, root: bigint, level: number): bigint {
  let table = root;
  for (let at = guest.levels(); at > level; at--) table = guest.read(guest.entryAddress(table, GVA, at)) & ADDRESS;
  return guest.entryAddress(table, GVA, level);
}

/** The page behind GVA in the shadow tables, undefined for none. */
function reached(guest: Guest): bigint | undefined {
  const found = guest.hardware(GVA, Access.Read | Access.Probe);
  return found.ok ? guest.gfnOf(found.pa)! << 12n : undefined;
}

const CASES: readonly [mode: Mode, level: number][] = [
  ...([1, 2, 3, 4, 5] as const).map((level) => ["5level", level] as [Mode, number]),
  ...([1, 2, 3, 4] as const).map((level) => ["4level", level] as [Mode, number]),
  ["pae", 1],
  ["pae", 2],
  ["32", 1],
  ["32", 2],
];

describe.each(CASES)("in mode %s an entry of level %i that changes while the host looks a page up", (mode, level) => {
  it.each([
    ["with no table shadowed yet", false],
    ["with the tables shadowed", true],
  ])("makes the fault retry, %s", (_what, warm) => {
    const { guest, root, other, second, editInPin } = racing(mode);
    if (warm) {
      // A neighbour's fault has shadowed every table.
      guest.map(root, GVA + 0x1000n, 0x38_0000n);
      expect(guest.access(GVA + 0x1000n, Access.Read)).toBe("ok");
    }
    const at = entryAt(guest, root, level);
    const entry = guest.read(entryAt(guest, other, level));
    editInPin(() => second.emulatedWrite(at, bytesOf(entry, guest.entryBytes)));
    expect(guest.vcpu.pageFault(GVA, 0).result).toBe("retry");
    guest.vcpu.enterGuest();
    expect(reached(guest)).not.toBe(OLD);
    expect(guest.access(GVA, Access.Read)).toBe("ok");
    expect(reached(guest)).toBe(NEW);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

it("an entry that is gone meanwhile makes the next fault the guest's", () => {
  const { guest, root, second, editInPin } = racing("4level");
  const leaf = entryAt(guest, root, 1);
  editInPin(() => second.emulatedWrite(leaf, bytesOf(0n, 8)));
  expect(guest.vcpu.pageFault(GVA, 0).result).toBe("retry");
  expect(guest.vcpu.pageFault(GVA, 0)).toMatchObject({ result: "inject", errorCode: 0 });
  guest.dispose();
});
