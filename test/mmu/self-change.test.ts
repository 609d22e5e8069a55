/** A guest that writes its own tables through a large page (is_self_change_mapping, kvm_mmu_hugepage_adjust). */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import { A, bytesOf, FULL, Guest, HIGH_SLOT, P, PS, RW, US } from "./guest.js";
import { Host } from "./machines/host.js";

const GVA = 0x4000_0000n;
const DATA = 0x20_0000n;

/** All tables lie in a large page of the host's, and the guest maps that page as one, writable. */
function started() {
  const guest = new Guest({ host: new Host() });
  // Not at its start: the engine looks for a table at a large page's first gfn in any case.
  const tables = [5n, 6n, 7n, 8n].map((i) => HIGH_SLOT + (i << 12n)) as [bigint, bigint, bigint, bigint];
  const TABLE = P | RW | US | A;
  guest.poke(tables[0], tables[1] | TABLE);
  guest.poke(tables[1] + 8n, tables[2] | TABLE);
  guest.poke(tables[2], HIGH_SLOT | FULL | PS);
  guest.poke(tables[2] + 8n, tables[3] | TABLE);
  guest.poke(tables[3], DATA | FULL);
  guest.start("4level", tables[0]);
  return { guest, tables };
}

describe("the first write through a large page that holds the tables of its own walk", () => {
  it("is made by a small page, so that no table can be written unnoticed", () => {
    const { guest, tables } = started();
    const result = guest.access(GVA + (tables[2] - HIGH_SLOT) + 16n, Access.Write);
    expect(result).toBe("emulate");
    for (const table of tables.slice(0, 3)) {
      expect(guest.hardware(GVA + (table - HIGH_SLOT), Access.Write).ok).toBe(false);
    }
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("of another page of it makes no large page either", () => {
    const { guest } = started();
    expect(guest.access(GVA + 0x10_0000n, Access.Write)).toBe("ok");
    const found = guest.hardware(GVA + 0x10_0000n, Access.Read);
    expect(found.ok && found.pageSize).toBe(4096);
    expect(guest.hardware(GVA + 0x7000n, Access.Write).ok).toBe(false);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("takes effect: a table that is changed so leads where it says", () => {
    const { guest, tables } = started();
    expect(guest.access(GVA + 0x20_0000n, Access.Read)).toBe("ok");
    const other = tables[2] + 8n;
    expect(guest.write(GVA + (other - HIGH_SLOT), other, DATA | FULL | PS)).toBe("emulate");
    expect(guest.access(GVA + 0x20_1000n, Access.Read)).toBe("ok");
    const found = guest.hardware(GVA + 0x20_1000n, Access.Read);
    expect(found.ok && guest.gfnOf(found.pa)).toBe((DATA >> 12n) + 1n);
    expect(bytesOf(guest.read(other), 8)).toEqual(bytesOf(DATA | FULL | PS, 8));
    guest.dispose();
  });

  it.each([0, 1, 2])("is made by a small page where it holds one of them only (the %i. from the top)", (which) => {
    const guest = new Guest({ host: new Host() });
    const tables = [0, 1, 2].map((i) => (i === which ? HIGH_SLOT + 0x5000n : guest.table())) as [
      bigint,
      bigint,
      bigint,
    ];
    const TABLE = P | RW | US | A;
    guest.poke(tables[0], tables[1] | TABLE);
    guest.poke(tables[1] + 8n, tables[2] | TABLE);
    guest.poke(tables[2], HIGH_SLOT | FULL | PS);
    guest.start("4level", tables[0]);
    expect(guest.access(GVA + 0x10_0000n, Access.Write)).toBe("ok");
    const found = guest.hardware(GVA + 0x10_0000n, Access.Read);
    expect(found.ok && found.pageSize).toBe(4096);
    expect(guest.access(GVA + 0x5000n, Access.Write)).toBe("emulate");
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});
