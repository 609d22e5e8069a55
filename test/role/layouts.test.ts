/** The layouts of role words, their encoding and decoding. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fieldOf, maskOf } from "../../src/abi/bits.js";
import { ConfigError } from "../../src/errors.js";
import {
  accessText,
  decodeRole,
  decodeWord,
  encodeWord,
  hexRole,
  joinRole,
  layoutOf,
  layoutOfKernel,
  PROJECT_ROLE,
  type RoleLayout,
  roleLayouts,
  splitRole,
} from "../../src/role/index.js";
import * as word from "../../src/role/word.js";

const anyLayout = fc.constantFrom(...roleLayouts());
const anyWord = fc.nat({ max: 0xffffffff });

describe("role layouts", () => {
  it.each(roleLayouts().map((layout) => [layout.era, layout] as const))("%s has no overlapping fields", (_, layout) => {
    for (const half of [layout.base, layout.ext]) {
      let taken = 0n;
      for (const field of half.fields) {
        expect(taken & maskOf(field), `${half.title} ${field.name}`).toBe(0n);
        expect(field.low + (field.width ?? 1)).toBeLessThanOrEqual(32);
        taken |= maskOf(field);
      }
    }
  });

  it.each(roleLayouts().map((layout) => [layout.era, layout] as const))("%s says where it was checked", (_, layout) => {
    expect(layout.base.source.length).toBeGreaterThan(30);
    expect(layout.ext.source.length).toBeGreaterThan(30);
  });

  /** Positions as the unions of the kernels declare them, in order; `_:N` skips N bits. */
  const declared: Record<string, [string, string]> = {
    "5.0": [
      "level:4 cr4_pae quadrant:2 direct access:3 invalid nxe cr0_wp smep_andnot_wp smap_andnot_wp ad_disabled guest_mode _:6 smm:8",
      "valid execonly cr0_pg cr4_pse cr4_pke cr4_smap cr4_smep cr4_la57 maxphyaddr:6",
    ],
    "5.7": [
      "level:4 gpte_is_8_bytes quadrant:2 direct access:3 invalid nxe cr0_wp smep_andnot_wp smap_andnot_wp ad_disabled guest_mode _:6 smm:8",
      "valid execonly cr0_pg cr4_pae cr4_pse cr4_pke cr4_smap cr4_smep maxphyaddr:6",
    ],
    "5.17": [
      "level:4 has_4_byte_gpte quadrant:2 direct access:3 invalid efer_nx cr0_wp smep_andnot_wp smap_andnot_wp ad_disabled guest_mode _:6 smm:8",
      "valid execonly cr0_pg cr4_pae cr4_pse cr4_pke cr4_smap cr4_smep cr4_la57 efer_lma",
    ],
    "5.1": [
      "level:4 gpte_is_8_bytes quadrant:2 direct access:3 invalid nxe cr0_wp smep_andnot_wp smap_andnot_wp ad_disabled guest_mode _:6 smm:8",
      "valid execonly cr0_pg cr4_pae cr4_pse cr4_pke cr4_smap cr4_smep cr4_la57 maxphyaddr:6",
    ],
    "5.14": [
      "level:4 gpte_is_8_bytes quadrant:2 direct access:3 invalid efer_nx cr0_wp smep_andnot_wp smap_andnot_wp ad_disabled guest_mode _:6 smm:8",
      "valid execonly cr0_pg cr4_pae cr4_pse cr4_pke cr4_smap cr4_smep cr4_la57 efer_lma",
    ],
    "5.19": [
      "level:4 has_4_byte_gpte quadrant:2 direct access:3 invalid efer_nx cr0_wp smep_andnot_wp smap_andnot_wp ad_disabled guest_mode passthrough _:5 smm:8",
      "valid execonly cr4_pse cr4_pke cr4_smap cr4_smep cr4_la57 efer_lma",
    ],
    "6.14": [
      "level:4 has_4_byte_gpte quadrant:2 direct access:3 invalid efer_nx cr0_wp smep_andnot_wp smap_andnot_wp ad_disabled guest_mode passthrough is_mirror _:4 smm:8",
      "valid execonly cr4_pse cr4_pke cr4_smap cr4_smep cr4_la57 efer_lma",
    ],
    "7.2": [
      "level:4 has_4_byte_gpte quadrant:2 direct access:4 invalid efer_nx cr0_wp smap_andnot_wp ad_disabled guest_mode passthrough is_mirror cr4_smep _:3 smm:8",
      "valid execonly cr4_pse cr4_pke cr4_smap cr4_la57 efer_lma has_pferr_fetch",
    ],
    project: [
      "level:4 has_4_byte_gpte quadrant:2 direct access:3 invalid efer_nx cr0_wp smep_andnot_wp smap_andnot_wp ad_disabled guest_mode level_promoted pae_root guest_level:3 _:1 smm:8",
      "valid execonly cr4_pse cr4_pke cr4_smap cr4_smep cr4_la57 efer_lma",
    ],
  };
  const positions = (text: string) => {
    let low = 0;
    return text.split(" ").flatMap((item) => {
      const [name, digits] = item.split(":");
      const width = Number(digits ?? 1);
      low += width;
      return name === "_" ? [] : [`${name}@${low - width}:${width}`];
    });
  };
  it.each(Object.entries(declared))("%s packs its fields as the kernel's union does", (era, [base, ext]) => {
    const layout = layoutOfKernel(era);
    const list = (half: RoleLayout["base"]) =>
      [...half.fields].sort((a, b) => a.low - b.low).map((field) => `${field.name}@${field.low}:${field.width ?? 1}`);
    expect(list(layout.base)).toEqual(positions(base));
    expect(list(layout.ext)).toEqual(positions(ext));
  });

  it("a kernel release finds its era", () => {
    const era = (name: string) => layoutOfKernel(name).era;
    expect(["5.0", "5.4", "5.10", "5.10.47", "5.10.48", "5.13"].map(era)).toEqual([
      "5.0",
      "5.1",
      "5.7",
      "5.7",
      "5.1",
      "5.7",
    ]);
    expect(["5.15", "5.17.3", "5.18", "6.1", "6.12.107", "6.16"].map(era)).toEqual([
      "5.14",
      "5.17",
      "5.17",
      "5.19",
      "5.19",
      "6.14",
    ]);
    expect(["7.2", "mainline", "8.0", "project"].map(era)).toEqual(["7.2", "7.2", "7.2", "project"]);
  });

  it.each(["4.19", "6.17", "7.1", "six", "", "6", "6.1.2.3"])("kernel %j is refused", (name) => {
    expect(() => layoutOfKernel(name)).toThrow(ConfigError);
  });
});

describe("encoding and decoding", () => {
  it("round-trips every word of every layout", () => {
    fc.assert(
      fc.property(anyLayout, anyWord, (layout, value) => {
        for (const half of [layout.base, layout.ext]) {
          const decoded = decodeWord(half, value);
          expect((encodeWord(half, decoded.fields) | decoded.unknown) >>> 0).toBe(value);
          expect(encodeWord(half, decoded.fields) & decoded.unknown).toBe(0);
        }
      }),
    );
  });

  it("decodes the CPU role of a long-mode guest", () => {
    const role = decodeRole(layoutOf("5.19"), splitRole(0x8100003704n));
    expect(role.base.fields).toMatchObject({ level: 4, access: 7, efer_nx: 1, cr0_wp: 1, direct: 0, smm: 0 });
    expect(role.ext?.fields).toMatchObject({ valid: 1, efer_lma: 1, cr4_smep: 0 });
    expect(role.base.unknown).toBe(0);
  });

  it("reports bits that the layout has no field for", () => {
    expect(decodeWord(layoutOf("5.14").base, 0x40000).unknown).toBe(0x40000);
    expect(decodeWord(layoutOf("5.19").ext, 0x8000_0081)).toMatchObject({ unknown: 0x8000_0000 });
  });

  it("splits and joins 64-bit roles", () => {
    fc.assert(
      fc.property(anyWord, anyWord, (base, ext) => {
        expect(joinRole(splitRole(joinRole({ base, ext })))).toBe(joinRole({ base, ext }));
      }),
    );
    expect(hexRole({ base: 0x3704, ext: 0x81 })).toBe("0x8100003704");
    expect(splitRole(0x3704n).ext).toBeUndefined();
  });

  it.each([-1n, 1n << 64n])("refuses %i as a 64-bit role, and takes what has 64 bits", (value) => {
    expect(() => splitRole(value)).toThrow(ConfigError);
    expect(splitRole((1n << 64n) - 1n)).toEqual({ base: 0xffff_ffff, ext: 0xffff_ffff });
  });

  it.each([
    [{ level: 16 }, "level=16 does not fit"],
    [{ level: -1 }, "level=-1 does not fit"],
    [{ level: 1.5 }, "level=1.5 does not fit"],
    [{ nxe: 1 }, "has no field nxe"],
  ])("refuses %j", (fields, message) => {
    expect(() => encodeWord(PROJECT_ROLE, fields as Record<string, number>)).toThrow(message);
  });

  it.each([-1, 2 ** 32, 0.5, Number.NaN])("refuses the word %d", (value) => {
    expect(() => decodeWord(PROJECT_ROLE, value)).toThrow(ConfigError);
  });

  it("prints inherited rights as the kernel of the layout does", () => {
    expect([7, 3, 1, 4].map((access) => accessText(layoutOf("5.19"), access))).toEqual(["wux", "w-x", "--x", "-u-"]);
    expect([15, 9, 3].map((access) => accessText(layoutOf("7.2"), access))).toEqual(["rwux", "r--x", "rw--"]);
  });
});

describe("number helpers", () => {
  const getters = [
    ["level", word.roleLevel],
    ["quadrant", word.roleQuadrant],
    ["access", word.roleAccess],
    ["guest_level", word.roleGuestLevel],
    ["smm", word.roleSmm],
    ["direct", (role: number) => Number(word.roleIsDirect(role))],
    ["invalid", (role: number) => Number(word.roleIsInvalid(role))],
    ["has_4_byte_gpte", (role: number) => Number(word.roleHas4ByteGpte(role))],
    ["level_promoted", (role: number) => Number(word.roleIsPromoted(role))],
    ["pae_root", (role: number) => Number(word.roleIsPaeRoot(role))],
    ["ad_disabled", (role: number) => Number(word.roleIsAdDisabled(role))],
    ["guest_mode", (role: number) => Number(word.roleIsGuestMode(role))],
  ] as const;
  it.each(getters)("%s agrees with the table for every word", (name, get) => {
    fc.assert(
      fc.property(anyWord, (role) => {
        expect(get(role)).toBe(decodeWord(PROJECT_ROLE, role).fields[name]);
      }),
    );
  });

  const setters = [
    ["level", word.withLevel],
    ["quadrant", word.withQuadrant],
    ["access", word.withAccess],
    ["guest_level", word.withGuestLevel],
  ] as const;
  it.each(setters)("setting %s changes nothing else", (name, set) => {
    const max = 2 ** (fieldOf(PROJECT_ROLE, name).width ?? 1) - 1;
    fc.assert(
      fc.property(anyWord, fc.nat({ max }), (role, value) => {
        const before = decodeWord(PROJECT_ROLE, role);
        expect(decodeWord(PROJECT_ROLE, set(role, value))).toEqual({
          fields: { ...before.fields, [name]: value },
          unknown: before.unknown,
        });
      }),
    );
  });

  it("flags are set and cleared without a sign", () => {
    fc.assert(
      fc.property(anyWord, (role) => {
        expect(word.withFlag(role, word.ROLE_PAE_ROOT, true)).toBe((role | (1 << 19)) >>> 0);
        expect(word.withFlag(role, word.ROLE_PAE_ROOT, false)).toBe((role & ~(1 << 19)) >>> 0);
      }),
    );
  });

  it("only indirect pages that are not promoted have guest entries", () => {
    expect(word.roleHasGptes(0x3704)).toBe(true);
    expect(word.roleHasGptes(0x3784)).toBe(false);
    expect(word.roleHasGptes(0x3705 | word.ROLE_LEVEL_PROMOTED)).toBe(false);
  });
});
