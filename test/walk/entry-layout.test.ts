/** What the layouts of entries say of each bit is what a walk makes of it. */
import { describe, expect, it } from "vitest";
import { type EntryFormat, type EntryKind, entryLayout, hasPages, levelsOf } from "../../src/abi/entry-format.js";
import { Status } from "../../src/abi/status.js";
import type { AddressSpace, AddressSpaceConfig, CpuFeatures, GuestMemory, Translation } from "../../src/api.js";
import { GeneralProtectionError } from "../../src/errors.js";
import { CR0, CR4, chain, EFER, engine, longMode, P, PAGE, PS, RWX, ram, U, W, WB } from "./build.js";

type Registers = Partial<AddressSpaceConfig>;

/** Where the table of each level stands, level 1 first. */
const TABLES = [0x4000n, 0x3000n, 0x2000n, 0x1000n, 0x6000n];
const WIDTH = 40;

const REGISTERS: Readonly<Record<Exclude<EntryFormat, "ept4" | "ept5">, Registers>> = {
  "32bit": { cr0: CR0.base, cr3: TABLES[1]!, cr4: CR4.pse, efer: 0 },
  pae: { cr0: CR0.base, cr3: TABLES[2]!, cr4: CR4.pae, efer: EFER.nxe },
  "4level": { cr3: TABLES[3]!, cr4: CR4.pae | CR4.pke | CR4.pks },
  "5level": { cr3: TABLES[4]!, cr4: CR4.pae | CR4.pke | CR4.pks | CR4.la57 },
};

interface Case {
  readonly format: EntryFormat;
  readonly level: number;
  readonly kind: EntryKind;
}

const CASES: Case[] = (["32bit", "pae", "4level", "5level", "ept4", "ept5"] as const).flatMap((format) =>
  Array.from({ length: levelsOf(format) }, (_, index) => index + 1).flatMap((level): Case[] => [
    ...(level > 1 ? [{ format, level, kind: "table" as const }] : []),
    ...(level === 1 || hasPages(format, level) ? [{ format, level, kind: "page" as const }] : []),
  ]),
);

const isEpt = (format: EntryFormat) => format === "ept4" || format === "ept5";

/** The entry under test in a chain that is good: all rights, 0 is mapped to 0 or to PAGE. */
function goodEntry({ format, level, kind }: Case): bigint {
  const below = level === 1 ? PAGE : TABLES[level - 2]!;
  if (isEpt(format)) return kind === "table" ? below | RWX : (level === 1 ? PAGE : PS) | RWX | WB;
  if (format === "pae" && level === 3) return below | P;
  return kind === "table" || level === 1 ? below | P | W | U : P | W | U | PS;
}

function tablesOf(format: EntryFormat): GuestMemory {
  const memory = ram();
  if (isEpt(format)) {
    for (let level = levelsOf(format); level > 1; level--)
      memory.writeU64(TABLES[level - 1]!, TABLES[level - 2]! | RWX);
    memory.writeU64(TABLES[0]!, PAGE | RWX | WB);
  } else if (format === "32bit") {
    memory.writeU32(TABLES[1]!, Number(TABLES[0]! | P | W | U));
    memory.writeU32(TABLES[0]!, Number(PAGE | P | W | U));
  } else {
    chain(memory);
    if (format === "pae") memory.writeU64(TABLES[2]!, TABLES[1]! | P);
  }
  return memory;
}

function spaceOf(format: EntryFormat, memory: GuestMemory, cpu: CpuFeatures): AddressSpace {
  if (format === "ept4" || format === "ept5") {
    const levels = levelsOf(format);
    const eptp = TABLES[levels - 1]! | (BigInt(levels - 1) << 3n) | 6n;
    return engine.createEpt(memory, { eptp, maxPhysAddr: WIDTH });
  }
  return engine.createAddressSpace(memory, { ...longMode(REGISTERS[format]), maxPhysAddr: WIDTH, cpu });
}

/** What an access to 0 gives with this entry; "refused" where PDPTEs with reserved bits cannot be loaded. */
function read(one: Case, entry: bigint, cpu: CpuFeatures): Translation | "refused" {
  const memory = tablesOf(one.format);
  const at = TABLES[one.level - 1]!;
  if (one.format === "32bit") memory.writeU32(at, Number(entry));
  else memory.writeU64(at, entry);
  try {
    return spaceOf(one.format, memory, cpu).translate(0);
  } catch (error) {
    if (error instanceof GeneralProtectionError) return "refused";
    throw error;
  }
}

/** A processor refuses the entry of that level, whatever the access; the entry may lead to one that it refuses, too. */
function isRefused(result: Translation | "refused", level: number): boolean {
  if (result === "refused") return true;
  if (result.ok || result.level !== level) return false;
  return result.status === Status.EptMisconfiguration || (result.errorCode & 8n) !== 0n;
}

describe.each([
  ["with every feature", {}],
  ["without PSE-36 and 1 GiB pages, with AMD's bit 8", { pse36: false, page1g: false, amdReservedBit8: true }],
] as const)("%s", (_, cpu: CpuFeatures) => {
  const cases = CASES.filter(({ format, level, kind }) => {
    // EPT's 1 GiB pages are a matter of the VMX capabilities, which stay as they are here.
    return isEpt(format)
      ? Object.keys(cpu).length === 0
      : kind !== "page" || level === 1 || hasPages(format, level, cpu);
  });

  it.each(cases)("$format, level $level, $kind", (one) => {
    const layout = entryLayout(one.format, one.level, one.kind, { maxPhysAddr: WIDTH, ...cpu });
    const good = goodEntry(one);
    const plain = read(one, good, cpu);
    expect(plain).toMatchObject({ ok: true });
    let tried = 0;
    for (const field of layout.fields) {
      for (let bit = field.low; bit < field.low + field.width; bit++) {
        const entry = good | (1n << BigInt(bit));
        if (entry === good) continue;
        tried++;
        // A type that does not exist is refused by its value, and PS makes another kind of entry.
        if (field.name === "MEMTYPE" || field.name === "PS") continue;
        const result = read(one, entry, cpu);
        const where = `bit ${bit}, ${field.name}`;
        expect(isRefused(result, one.level), where).toBe(field.use === "reserved");
        if (field.use === "ignored") expect(result, where).toEqual(plain);
      }
    }
    expect(tried).toBeGreaterThan(20);
  });
});
