/** Control registers, error codes and exit qualifications against the manuals' tables. */
import { describe, expect, it } from "vitest";
import { WORDS, type WordName } from "../../src/abi/words.js";
import { decodeWord, wordNames } from "../../src/decode/index.js";

/** Single bits as the manuals number them: SDM vol. 3, "Control Registers" and so on; the APM for what is AMD's. */
const BITS: Partial<Record<WordName, string>> = {
  cr0: "0 PE 1 MP 2 EM 3 TS 4 ET 5 NE 16 WP 18 AM 29 NW 30 CD 31 PG",
  cr4:
    "0 VME 1 PVI 2 TSD 3 DE 4 PSE 5 PAE 6 MCE 7 PGE 8 PCE 9 OSFXSR 10 OSXMMEXCPT 11 UMIP 12 LA57 13 VMXE 14 SMXE " +
    "16 FSGSBASE 17 PCIDE 18 OSXSAVE 19 KL 20 SMEP 21 SMAP 22 PKE 23 CET 24 PKS 25 UINTR 27 LASS 28 LAM_SUP 32 FRED",
  efer: "0 SCE 8 LME 10 LMA 11 NXE 12 SVME 13 LMSLE 14 FFXSR 15 TCE 17 MCOMMIT 18 INTWB 20 UAIE 21 AIBRSE",
  "error-code": "0 P 1 W 2 U 3 RSVD 4 I 5 PK 6 SS 7 HLAT 15 SGX 31 RMP",
  exitinfo1:
    "0 P 1 W 2 U 3 RSVD 4 I 5 PK 6 SS 7 HLAT 15 SGX 31 RMP 32 GUEST_FINAL 33 GUEST_PAGE 34 ENC 35 SIZEM 36 VMPL 37 SSS",
  pferr:
    "0 P 1 W 2 U 3 RSVD 4 I 5 PK 6 SS 7 HLAT 15 SGX 31 RMP 32 GUEST_FINAL 33 GUEST_PAGE 34 ENC 35 SIZEM 36 VMPL 37 SSS " +
    "48 IMPLICIT_ACCESS 49 PRIVATE_ACCESS",
  "ept-violation":
    "0 READ 1 WRITE 2 FETCH 3 READABLE 4 WRITABLE 5 EXECUTABLE 6 USER_EXECUTABLE 7 GVA_VALID 8 GVA_FINAL 9 USER_ADDRESS " +
    "10 WRITABLE_PAGE 11 XD_PAGE 12 NMI_UNBLOCKING 13 SHADOW_STACK 14 SSS 15 GUEST_PAGING 16 ASYNCHRONOUS",
  cr3: "3 PWT 4 PCD 61 LAM_U57 62 LAM_U48",
  eptp: "6 AD 7 SSS",
};

describe.each(Object.entries(BITS) as [WordName, string][])("%s", (name, table) => {
  it("has the manuals' names at the manuals' places, and no other", () => {
    const named = new Map([...table.matchAll(/(\d+) (\w+)/g)].map(([, bit, field]) => [Number(bit), field]));
    for (let bit = 0; bit < WORDS[name].bits; bit++) {
      const single = decodeWord(name, 1n << BigInt(bit)).fields.filter(
        ({ width, value }) => width === 1 && value === 1n,
      );
      const wide = [...WORDS[name].fields, ...(("ignored" in WORDS[name] && WORDS[name].ignored) || [])].some(
        (field) => (field.width ?? 1) > 1 && bit >= field.low && bit < field.low + field.width!,
      );
      if (wide) continue;
      expect(
        single.map((field) => field.name),
        `bit ${bit}`,
      ).toEqual([named.get(bit) ?? "RESERVED"]);
    }
  });
});

describe("words", () => {
  it("have no field over another, and none beyond their bits", () => {
    for (const name of wordNames) {
      let seen = 0n;
      for (const { low, width = 1 } of WORDS[name].fields) {
        const mask = ((1n << BigInt(width)) - 1n) << BigInt(low);
        expect(seen & mask, name).toBe(0n);
        expect(mask >> BigInt(WORDS[name].bits), name).toBe(0n);
        seen |= mask;
      }
    }
  });

  it.each<[WordName, bigint, string]>([
    ["error-code", 0n, "supervisor-mode read: not present"],
    ["error-code", 7n, "user-mode write: refused by the rights"],
    ["error-code", 0x1dn, "user-mode fetch: a reserved bit is set in an entry"],
    ["error-code", 0x25n, "user-mode read: refused by the protection key"],
    ["error-code", 0x47n, "user-mode shadow-stack write: refused by the rights"],
    ["exitinfo1", 0x1_0000_0006n, "user-mode write: not present, at the final guest-physical address"],
    ["pferr", 0x2_0000_0007n, "user-mode write: refused by the rights, at the address of a guest table"],
    ["ept-violation", 0x181n, "read: not present; the translated address"],
    ["ept-violation", 0xabn, "read and write: but readable and executable; the address of a guest table"],
    ["ept-violation", 0x4n, "fetch: not present; no linear address"],
    ["cr0", 0x8001_0033n, "protected mode with paging"],
    ["cr0", 0x11n, "protected mode without paging"],
    ["cr0", 0x10n, "real mode"],
    ["cr3", 0x1234_5018n, "root table at 0x12345000"],
    ["cr3-pcid", 0x8000_0000_1234_5007n, "root table at 0x12345000, PCID 7"],
    ["cr3-pae", 0x1234_5020n, "root table at 0x12345020"],
    ["cr3-32bit", 0x1234_5fffn, "root table at 0x12345000"],
    ["eptp", 0x1_005en, "root table at 0x10000"],
    ["cr-access", 0x703n, "MOV to CR3 from rdi"],
    ["cr-access", 0x14n, "MOV from CR4 to rax"],
    ["cr-access", 0x20n, "CLTS"],
    ["efer", 0xd01n, ""],
  ])("%s %x: %s", (name, word, summary) => {
    expect(decodeWord(name, word).summary).toBe(summary);
  });

  it.each<[WordName, bigint, RegExp[]]>([
    ["error-code", 0x28n, [/^RSVD without P/, /^PK without P/]],
    ["error-code", 0x33n, [/^W and I/, /^PK and I/]],
    ["error-code", 1n << 8n, [/^bits that must be 0 are set: 0x100$/]],
    ["exitinfo1", 0x3_0000_0001n, [/^GUEST_FINAL and GUEST_PAGE/]],
    ["ept-violation", 0x101n, [/^GVA_FINAL without GVA_VALID/]],
    ["cr0", 0x8000_0000n, [/^PG without PE/]],
    ["cr0", 0x2000_0001n, [/^NW without CD/]],
    ["cr4", 0x2_0000n, [/^PCIDE without PAE/]],
    ["cr4", 0x1000n, [/^LA57 without PAE/]],
    ["efer", 0x400n, [/^LMA without LME/]],
    ["eptp", 0x1_0f59n, [/0xf00/, /MEMTYPE has the value 1/]],
    ["eptp", 0x1_0046n, [/WALK_LENGTH has the value 0/]],
    ["pat", 0x0007_0406_0007_0402n, [/PA0 has the value 2/]],
    ["cr3", 1n << 63n, [/0x8000000000000000/]],
    ["cr3-pcid", (1n << 63n) | 0xfffn, []],
    ["cr4", 0x3506e0n, []],
    // Bits that the processor ignores are no fault of a word.
    ["cr3", 0x1234_5fffn, []],
    ["cr3-32bit", 0x1234_5fffn, []],
    ["cr3-pae", 0x1234_503fn, []],
  ])("%s %x: what cannot be", (name, word, problems) => {
    const found = decodeWord(name, word).problems;
    expect(found).toHaveLength(problems.length);
    for (const [index, problem] of problems.entries()) expect(found[index]).toMatch(problem);
  });

  it("name the values of wider fields", () => {
    const texts = (name: WordName, word: bigint) => decodeWord(name, word).fields.map(({ text }) => text);
    expect(texts("pat", 0x0007_0406_0007_0406n)).toEqual(["WB", "WT", "UC-", "UC", "WB", "WT", "UC-", "UC"]);
    expect(texts("eptp", 0x1_0026n)).toEqual(["write back", "5 levels", undefined]);
  });

  it("have the rights of every key in PKRU", () => {
    expect(decodeWord("pkru", 0x5555_5554n).fields.map(({ name }) => name)).toEqual(
      Array.from({ length: 15 }, (_, index) => `AD${index + 1}`),
    );
    expect(decodeWord("pkru", 0x8000_0000n).fields).toMatchObject([{ name: "WD15", low: 31 }]);
  });

  it("are refused where there is no such kind or no such bit", () => {
    expect(() => decodeWord("cr2" as WordName, 0n)).toThrow(/expected one of cr0, .* found cr2/);
    expect(() => decodeWord("constructor" as WordName, 0n)).toThrow(RangeError);
    expect(() => decodeWord("error-code", 1n << 32n)).toThrow(/32 bits/);
    expect(() => decodeWord("cr4", -1n)).toThrow(RangeError);
  });
});
