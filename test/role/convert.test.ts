/** Converting roles between kernels. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { conceptsOf } from "../../src/role/concepts.js";
import {
  convertRole,
  decodeRole,
  ERAS,
  encodeWord,
  layoutOf,
  layoutOfKernel,
  type RoleFields,
  type RoleWords,
} from "../../src/role/index.js";

const from61 = (role: RoleWords, kernel: string) => convertRole(role, layoutOf("5.19"), layoutOfKernel(kernel));
const page = (kernel: string, fields: RoleFields) => ({ base: encodeWord(layoutOfKernel(kernel).base, fields) });
const LONG = { base: 0x3704, ext: 0x81 };

describe("conversion between kernels", () => {
  it("inverts the guest entry size where the field is inverted", () => {
    expect(from61({ base: 0x3704 }, "5.16").role.base).toBe(0x3714);
    expect(from61({ base: 0x3713 }, "5.16").role.base).toBe(0x3703);
    expect(from61({ base: 0x3704 }, "5.0").role.base).toBe(0x3714);
    expect(convertRole({ base: 0x3714 }, layoutOfKernel("5.4"), layoutOf("5.19")).role.base).toBe(0x3704);
  });

  it("gives direct pages the entry size that each kernel stores, which means nothing", () => {
    // kvm_mmu_get_page: 5.0 clears cr4_pae in direct pages, 5.1 to 5.16 set gpte_is_8_bytes.
    expect(from61({ base: 0x3784 }, "5.0").role.base).toBe(0x3784);
    expect(from61({ base: 0x3784 }, "5.10").role.base).toBe(0x3794);
    for (const base of [0x3784, 0x3794]) {
      const converted = convertRole({ base }, layoutOf("5.14"), layoutOf("5.19"));
      expect(converted.role.base).toBe(0x3784);
      expect(converted.lost).toEqual([]);
    }
  });

  it("moves the extended role's fields", () => {
    // valid, cr0_pg, cr4_pae, efer_lma
    expect(from61(LONG, "5.15").role).toEqual({ base: 0x3714, ext: 0x20d });
    expect(convertRole({ base: 0x3714, ext: 0x20d }, layoutOf("5.14"), layoutOf("5.19")).role).toEqual(LONG);
  });

  it("reports MAXPHYADDR as lost, and as unknown the other way", () => {
    const old = { base: 0x3714, ext: 0xd | (40 << 9) };
    const newer = convertRole(old, layoutOf("5.1"), layoutOf("5.19"));
    expect(newer.role).toEqual(LONG);
    expect(newer.lost).toEqual([{ field: "ext.maxphyaddr", value: 40 }]);
    expect(from61(LONG, "5.4").assumed).toEqual(["ext.maxphyaddr"]);
  });

  it("reports CR0.PG of an old two-dimensional role, which a direct role cannot show", () => {
    const converted = convertRole({ base: 0x3794, ext: 0xd }, layoutOf("5.14"), layoutOf("5.19"));
    expect(converted.lost.map(({ field }) => field)).toEqual(["ext.cr0_pg", "ext.cr4_pae"]);
  });

  it("turns three access bits into four and back", () => {
    const mainline = from61({ base: 0x3704 }, "mainline");
    expect(mainline.role.base).toBe(encodeWord(layoutOf("7.2").base, { level: 4, access: 15, efer_nx: 1, cr0_wp: 1 }));
    const executeOnly = page("7.2", { level: 1, access: 8 });
    const back = convertRole(executeOnly, layoutOf("7.2"), layoutOf("5.19"));
    expect(back.role.base).toBe(0x101);
    expect(back.lost).toEqual([{ field: "access", value: 8 }]);
  });

  it("finds SMEP for mainline in the extended role, or in a page role with CR0.WP=0", () => {
    const smep = layoutOf("7.2").base.fields.find((field) => field.name === "cr4_smep")!.low;
    const has = (role: RoleWords) => ((from61(role, "7.2").role.base >>> smep) & 1) === 1;
    expect(has({ base: 0x3704, ext: 0xa1 })).toBe(true);
    expect(has({ base: 0x5704 })).toBe(true);
    expect(from61({ base: 0x3704 }, "7.2").assumed).toEqual(["cr4_smep"]);
    expect(from61({ base: 0x1704 }, "7.2").assumed).toEqual([]);
    expect(from61({ base: 0x3704, ext: 0xa1 }, "7.2").role.ext).toBe(0xc1);
    expect(
      convertRole(from61({ base: 0x3704, ext: 0xa1 }, "7.2").role, layoutOf("7.2"), layoutOf("5.19")),
    ).toMatchObject({
      role: { base: 0x3704, ext: 0xa1 },
      lost: [],
      assumed: [],
    });
  });

  it("loses SMEP of a mainline page role with CR0.WP=1 in older kernels", () => {
    const role = page("7.2", { level: 4, access: 15, cr0_wp: 1, cr4_smep: 1 });
    expect(convertRole(role, layoutOf("7.2"), layoutOf("6.14")).lost).toEqual([{ field: "cr4_smep", value: 1 }]);
  });

  it("derives what older extended roles lack from the level: five mean CR4.LA57, four and more long mode", () => {
    for (const [level, la57, lma] of [
      [3, 0, 0],
      [4, 0, 1],
      [5, 1, 1],
    ] as const) {
      const base = encodeWord(layoutOf("5.7").base, { level, access: 7, gpte_is_8_bytes: 1 });
      const { role } = convertRole({ base, ext: 1 }, layoutOf("5.7"), layoutOf("5.19"));
      const { ext } = decodeRole(layoutOf("5.19"), role);
      expect([ext!.fields.cr4_la57, ext!.fields.efer_lma]).toEqual([la57, lma]);
    }
  });

  it("loses is_mirror before 6.14", () => {
    const role = page("6.14", { level: 4, is_mirror: 1, access: 7 });
    expect(convertRole(role, layoutOf("6.14"), layoutOf("5.19")).lost).toEqual([{ field: "is_mirror", value: 1 }]);
    expect(convertRole(role, layoutOf("6.14"), layoutOf("7.2")).lost).toEqual([]);
  });

  it("reads passthrough as a promotion from 4 to 5 levels", () => {
    const converted = from61({ base: 0x61705 }, "project");
    expect(converted.role).toEqual(
      page("project", { level: 5, access: 7, efer_nx: 1, guest_mode: 1, level_promoted: 1, guest_level: 4 }),
    );
    expect(convertRole(converted.role, layoutOf("project"), layoutOf("5.19"))).toMatchObject({
      role: { base: 0x61705 },
      lost: [],
    });
  });

  it("reads a third level over 4-byte entries as a promotion, but cannot tell whether it is a root", () => {
    const converted = from61({ base: 0x3713 }, "project");
    expect(converted.role.base).toBe(0x3713 | (1 << 18) | (2 << 20));
    expect(converted.assumed).toEqual(["pae_root"]);
  });

  it("reports this project's promotions and pae_root that 6.1 has no bits for", () => {
    const role = page("project", { level: 4, access: 7, level_promoted: 1, guest_level: 3 });
    const lost = convertRole(role, layoutOf("project"), layoutOf("5.19")).lost.map(({ field }) => field);
    expect(lost).toEqual(["level_promoted", "guest_level"]);
    const pae = page("project", { level: 3, access: 7, pae_root: 1, guest_level: 3 });
    expect(convertRole(pae, layoutOf("project"), layoutOf("5.19")).lost).toEqual([{ field: "pae_root", value: 1 }]);
  });

  it("drops and reports bits that the source layout does not define", () => {
    expect(convertRole({ base: 0x43704 }, layoutOf("5.17"), layoutOf("5.19"))).toMatchObject({
      role: { base: 0x3704 },
      unknown: { base: 0x40000 },
    });
  });
});

describe("conversion properties", () => {
  const layouts = fc.constantFrom(...ERAS);
  const words = fc.nat({ max: 0xffffffff });

  it("a conversion to the same layout keeps every defined bit, but the entry size of direct pages", () => {
    fc.assert(
      fc.property(layouts, words, words, (era, base, ext) => {
        const layout = layoutOf(era);
        const { role, lost, unknown } = convertRole({ base, ext }, layout, layout);
        const direct = (base & 0x80) !== 0;
        const ignored = direct && ["5.0", "5.1", "5.7", "5.14"].includes(layout.era) ? 0x10 : 0;
        expect((role.base | ignored) >>> 0).toBe(((base & ~unknown.base) | ignored) >>> 0);
        expect(role.ext).toBe((ext & ~unknown.ext!) >>> 0);
        expect(lost).toEqual([]);
      }),
    );
  });

  it("what is not reported as lost comes back from any layout", () => {
    fc.assert(
      fc.property(layouts, layouts, words, words, (fromEra, toEra, base, ext) => {
        const [from, to] = [layoutOf(fromEra), layoutOf(toEra)];
        const there = convertRole({ base, ext }, from, to);
        const back = convertRole(there.role, to, from);
        const before = conceptsOf(from, { base, ext });
        const after = conceptsOf(from, back.role);
        if (there.lost.length > 0) return;
        for (const [concept, value] of before) {
          if (back.assumed.length === 0) expect(after.get(concept), concept).toBe(value);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it("reports a loss whenever the way back gives another word", () => {
    fc.assert(
      fc.property(layouts, layouts, words, (fromEra, toEra, word) => {
        const [from, to] = [layoutOf(fromEra), layoutOf(toEra)];
        const base = convertRole({ base: word }, from, from).role.base;
        const there = convertRole({ base }, from, to);
        const back = convertRole(there.role, to, from);
        if (back.role.base !== base) expect(there.lost.length).toBeGreaterThan(0);
      }),
      { numRuns: 5000 },
    );
  });
});
