/** This project's own ELF note: what other notes cannot say of a dump that was made of another one. */
import type { DumpError } from "../bytes/errors.js";
import type { DumpCpu, DumpFormat, DumpRoot, LongMode } from "./content.js";

/** The note's name; its type is 1, and its description JSON in UTF-8. */
export const OWN_NOTE = "X86PAGING";
export const OWN_NOTE_TYPE = 1;
/** Registers of some thousand processors are less. */
const MOST_BYTES = 4 * 2 ** 20;
const ADDRESSES = 1n << 64n;

/** What the note says. */
export interface OwnNote {
  /** The file has page tables and notes alone. */
  readonly tablesOnly: boolean;
  /** The format of the dump that it was made of. */
  readonly madeOf: DumpFormat;
  /** See DumpContent. */
  readonly excludedTablesAreZero: boolean;
  readonly longMode?: LongMode | undefined;
  readonly root?: DumpRoot | undefined;
  /** Registers of processors, where no other note has them. */
  readonly cpus: readonly DumpCpu[];
}

const CPU_REGISTERS = ["cr0", "cr2", "cr3", "cr4", "efer", "rip", "rflags"] as const;

/** The note's description. */
export function writeOwnNote(note: OwnNote): Uint8Array {
  return new TextEncoder().encode(
    JSON.stringify(note, (_, value) => (typeof value === "bigint" ? `0x${value.toString(16)}` : value)),
  );
}

/** Throws the error for what the note is not. */
export function readOwnNote(view: DataView, at: number, size: number, broken: (problem: string) => DumpError): OwnNote {
  if (size > MOST_BYTES) throw broken(`expected a description of at most ${MOST_BYTES} bytes, found ${size}`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder().decode(new Uint8Array(view.buffer, view.byteOffset + at, size)));
  } catch {
    throw broken("expected JSON");
  }
  const fields = new Fields(parsed, broken);
  const cpus = fields.list("cpus").map((cpu, index) => cpuOf(new Fields(cpu, broken), index));
  return {
    tablesOnly: fields.flag("tablesOnly"),
    madeOf: fields.text("madeOf") as DumpFormat,
    excludedTablesAreZero: fields.flag("excludedTablesAreZero"),
    longMode: longModeOf(fields.part("longMode")),
    root: rootOf(fields.part("root")),
    cpus,
  };
}

function cpuOf(fields: Fields, index: number): DumpCpu {
  const registers = CPU_REGISTERS.map((name) => [name, fields.register(name)] as const);
  const missing = registers.find(([name, value]) => /^cr/.test(name) && value === undefined);
  if (missing !== undefined) throw fields.wrong(missing[0], "a register");
  const cpl = fields.number("cpl");
  return { index, origin: fields.text("origin"), ...Object.fromEntries(registers), cpl } as DumpCpu;
}

function longModeOf(fields: Fields | undefined): LongMode | undefined {
  return fields && { active: fields.flag("active"), reason: fields.text("reason") };
}

function rootOf(fields: Fields | undefined): DumpRoot | undefined {
  if (fields === undefined) return undefined;
  const cr3 = fields.register("cr3");
  if (cr3 === undefined) throw fields.wrong("cr3", "a register");
  const pae = fields.part("pae");
  return {
    cr3,
    origin: fields.text("origin"),
    ...(pae === undefined ? {} : { pae: { enabled: pae.flag("enabled"), origin: pae.text("origin") } }),
  };
}

/** Members of a JSON object, each of the kind that is asked for. */
class Fields {
  readonly #object: Readonly<Record<string, unknown>>;
  readonly #broken: (problem: string) => DumpError;

  constructor(value: unknown, broken: (problem: string) => DumpError) {
    if (typeof value !== "object" || value === null) throw broken("expected a JSON object");
    this.#object = value as Readonly<Record<string, unknown>>;
    this.#broken = broken;
  }

  wrong(name: string, expected: string): DumpError {
    return this.#broken(`${name}: expected ${expected}`);
  }

  flag(name: string): boolean {
    const value = this.#object[name];
    if (typeof value !== "boolean") throw this.wrong(name, "true or false");
    return value;
  }

  text(name: string): string {
    const value = this.#object[name];
    if (typeof value !== "string") throw this.wrong(name, "text");
    return value;
  }

  list(name: string): readonly unknown[] {
    const value = this.#object[name];
    if (!Array.isArray(value)) throw this.wrong(name, "a list");
    return value;
  }

  /** Undefined where it is not there, as the next ones. */
  part(name: string): Fields | undefined {
    const value = this.#object[name];
    return value === undefined ? undefined : new Fields(value, this.#broken);
  }

  number(name: string): number | undefined {
    const value = this.#object[name];
    if (value !== undefined && !Number.isInteger(value)) throw this.wrong(name, "an integer");
    return value as number | undefined;
  }

  register(name: string): bigint | undefined {
    const value = this.#object[name];
    if (value === undefined) return undefined;
    if (typeof value !== "string" || !/^0x[0-9a-f]{1,16}$/.test(value) || BigInt(value) >= ADDRESSES) {
      throw this.wrong(name, "a hexadecimal number of 64 bits");
    }
    return BigInt(value);
  }
}
