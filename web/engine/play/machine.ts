/** The playground's machine: memory, registers and a TLB; what an access does to them, check by check. */
import { Access, type Core, type PagingMode, type Rights, type Translation, type WalkStep } from "x86-paging";
import { bitOf, CR0, CR3_PAE, CR4, PTE } from "x86-paging/abi";
import { decodeEntry, entryName, levelsOf } from "x86-paging/decode";
import { explain, factorText } from "x86-paging/explain";
import { type ShadowResult, shadowOf } from "./kvm-shadow.js";
import { linkOf, RAM, type Registers, type Setup } from "./setup.js";
import { Tlb, type TlbEntry } from "./tlb.js";

export interface PlayAccess {
  readonly address: bigint;
  readonly kind: "read" | "write" | "fetch";
  readonly user: boolean;
  /** EFLAGS.AC. */
  readonly ac: boolean;
}

/** A flag that an access set. */
export interface FlagChange {
  readonly entry: string;
  readonly address: bigint;
  readonly flag: "A" | "D";
}

export interface PlayCheck {
  readonly passed: boolean;
  readonly subject: string;
  readonly text: string;
  readonly factors: string;
}

/** What an access came to. */
export interface PlayResult {
  readonly access: PlayAccess;
  readonly tlb: "hit" | "miss";
  /** Of a hit, what the entry says; else what the walk came to. */
  readonly pa: bigint | undefined;
  readonly rights: Rights | undefined;
  readonly pageSize: number | undefined;
  readonly fault:
    | { readonly vector: number | undefined; readonly errorCode: bigint; readonly reasons: readonly string[] }
    | undefined;
  readonly checks: readonly PlayCheck[];
  readonly steps: readonly WalkStep[];
  readonly flags: readonly FlagChange[];
  /** A hit that the tables no longer say: what a walk would come to now. */
  readonly stale: boolean;
}

export interface PlayEntry {
  readonly index: number;
  readonly address: number;
  readonly entry: bigint;
  readonly says: string;
}

/** A table that can be reached from CR3. */
export interface PlayTable {
  readonly address: number;
  readonly level: number;
  readonly name: string;
  /** Which entries it has room for. */
  readonly size: number;
  readonly entries: readonly PlayEntry[];
}

/** All that is to be seen of the machine. */
export interface PlayState {
  readonly mode: PagingMode;
  readonly registers: Registers;
  readonly tables: readonly PlayTable[];
  readonly tlb: readonly TlbEntry[];
  readonly result: PlayResult | undefined;
  readonly link: Readonly<Record<string, string>>;
}

/** More tables than this machine's memory is worth looking through. */
const MOST_TABLES = 24;
const PAGE = 4096;

export class PlayMachine {
  readonly #core: Core;
  readonly #memory: ReturnType<Core["createMemory"]>;
  readonly #mode: Setup["mode"];
  readonly #tlb = new Tlb();
  /** Addresses of words that are not zero, or were not. */
  readonly #places = new Set<number>();
  #registers: Registers;
  #space: ReturnType<Core["createAddressSpace"]>;
  #result: PlayResult | undefined;

  /** Throws GeneralProtectionError for registers that MOV would refuse. */
  constructor(core: Core, { mode, registers, words }: Setup) {
    this.#core = core;
    this.#mode = mode;
    this.#registers = registers;
    this.#memory = core.createMemory({ slots: [{ gpa: 0n, size: RAM }] });
    try {
      for (const [place, word] of words) this.#store(place, word);
      this.#space = core.createAddressSpace(this.#memory, registers);
    } catch (error) {
      this.#memory.dispose();
      throw error;
    }
  }

  dispose(): void {
    this.#space.dispose();
    this.#memory.dispose();
  }

  get mode(): PagingMode {
    return this.#space.mode;
  }

  get #entrySize(): 4 | 8 {
    return this.#mode === "32bit" ? 4 : 8;
  }

  #load(place: number): bigint {
    return this.#entrySize === 4 ? BigInt(this.#memory.readU32(place)) : this.#memory.readU64(place);
  }

  #store(place: number, word: bigint): void {
    if (this.#entrySize === 4) this.#memory.writeU32(place, Number(word));
    else this.#memory.writeU64(place, word);
    this.#places.add(place);
  }

  /** Writes an entry, as the system does: TLB and latched PDPTEs keep what they have. */
  setEntry(place: number, word: bigint): void {
    if (!Number.isInteger(place) || place < 0 || place + this.#entrySize > RAM || place % this.#entrySize !== 0) {
      throw new RangeError(`0x${place.toString(16)}: expected the address of an entry in memory`);
    }
    this.#store(place, BigInt.asUintN(this.#entrySize * 8, word));
  }

  /** MOV to a control register, or WRMSR to EFER; throws GeneralProtectionError, with nothing changed, where it is refused. */
  setRegister(name: keyof Registers, value: bigint): void {
    const registers = { ...this.#registers, [name]: value };
    const space = this.#core.createAddressSpace(this.#memory, registers);
    this.#space.dispose();
    this.#space = space;
    const old = this.#registers;
    this.#registers = registers;
    const changed = (register: "cr0" | "cr4", ...bits: readonly bigint[]) =>
      bits.some((bit) => ((registers[register] ^ old[register]) & bit) !== 0n);
    // SDM vol. 3, "Operations that Invalidate TLBs and Paging-Structure Caches".
    if (name === "cr3") this.#tlb.flush({ global: false });
    if (name === "cr0" && changed("cr0", bitOf(CR0, "PG"))) this.#tlb.flush({ global: true });
    if (name === "cr4") this.#tlb.flush({ global: true });
    if (name === "efer") this.#tlb.flush({ global: true });
  }

  invlpg(address: bigint): void {
    this.#tlb.invalidate(address);
  }

  access(access: PlayAccess): PlayResult {
    const { address, kind, user, ac } = access;
    const word =
      Access[kind === "read" ? "Read" : kind === "write" ? "Write" : "Fetch"] |
      (user ? Access.User : 0) |
      (ac ? Access.Ac : 0);
    const { cr0, cr4 } = this.#registers;
    const hit = this.#tlb.find(address, {
      kind,
      user,
      ac,
      wp: (cr0 & bitOf(CR0, "WP")) !== 0n,
      smep: (cr4 & bitOf(CR4, "SMEP")) !== 0n,
      smap: (cr4 & bitOf(CR4, "SMAP")) !== 0n,
    });
    const { walk, checks, code } = explain(this.#space, address, word);
    if (hit !== undefined) {
      const pa = hit.frame + (address - hit.page);
      const stale = !walk.result.ok || walk.result.pa !== pa;
      this.#result = {
        access,
        tlb: "hit",
        pa,
        rights: hit.rights,
        pageSize: hit.size,
        fault: undefined,
        checks: [],
        steps: [],
        flags: [],
        stale,
      };
      return this.#result;
    }
    const before = walk.steps.map((step) => this.#load(Number(step.address)));
    const result: Translation = this.#space.translate(address, word);
    const flags = walk.steps.flatMap((step, index) => this.#flagsSet(step, before[index]!));
    const ok = result.ok ? result : undefined;
    if (ok && this.#space.mode !== "none") this.#tlb.fill(address, ok, this.#isDirty(walk.steps));
    this.#result = {
      access,
      tlb: "miss",
      pa: ok?.pa,
      rights: ok?.rights,
      pageSize: ok?.pageSize,
      fault: result.ok
        ? undefined
        : {
            vector: result.vector,
            errorCode: result.errorCode,
            reasons: code.map(({ name, set, reason }) => `${name}=${set ? 1 : 0}: ${reason}`),
          },
      checks: checks.map((check) => ({
        passed: check.passed,
        subject: check.level === 0 ? "address" : entryName(check.level),
        text: check.text,
        factors: check.factors.map(factorText).join(" "),
      })),
      steps: walk.steps,
      flags,
      stale: false,
    };
    return this.#result;
  }

  #flagsSet(step: WalkStep, before: bigint): FlagChange[] {
    const now = this.#load(Number(step.address)) & ~before;
    return (["A", "D"] as const)
      .filter((flag) => (now & bitOf(PTE, flag)) !== 0n)
      .map((flag) => ({ entry: entryName(step.level), address: step.address, flag }));
  }

  #isDirty(steps: readonly WalkStep[]): boolean {
    const leaf = steps.at(-1);
    return leaf !== undefined && (this.#load(Number(leaf.address)) & bitOf(PTE, "D")) !== 0n;
  }

  /** What an access would come to now by the tables: nothing is changed, the TLB is not asked. */
  probe(address: bigint, access: number): Translation {
    return this.#space.translate(address, access | Access.Probe);
  }

  /** Whether the entry that maps an address has its writable flag. */
  leafAllowsWrites(address: bigint): boolean {
    const leaf = this.#space.walk(address, Access.Probe | Access.Ac).steps.at(-1);
    return leaf !== undefined && (leaf.entry & bitOf(PTE, "RW")) !== 0n;
  }

  /** What KVM's shadow MMU makes of accesses to the guest as it is; of the last one. */
  shadow(accesses: readonly PlayAccess[]): ShadowResult {
    const wanted = accesses.map(({ address, kind, user }) => ({
      address,
      user,
      write: kind === "write",
      fetch: kind === "fetch",
    }));
    return shadowOf(this.#core, this.#memory.read(0n, RAM), this.#registers, wanted);
  }

  get state(): PlayState {
    const words = new Map([...this.#places].map((place) => [place, this.#load(place)]));
    return {
      mode: this.mode,
      registers: this.#registers,
      tables: this.#tables(),
      tlb: this.#tlb.entries,
      result: this.#result,
      link: linkOf({ mode: this.#mode, registers: this.#registers, words }),
    };
  }

  /** The tables that CR3 leads to, a root first. */
  #tables(): PlayTable[] {
    const { mode } = this;
    if (mode === "none" || mode === "ept4" || mode === "ept5") return [];
    const pse = (this.#registers.cr4 & bitOf(CR4, "PSE")) !== 0n;
    const found = new Map<string, PlayTable>();
    const visit = (address: number, level: number) => {
      const key = `${address}/${level}`;
      if (found.has(key) || found.size >= MOST_TABLES) return;
      const size = mode === "pae" && level === 3 ? 4 : PAGE / this.#entrySize;
      if (address + size * this.#entrySize > RAM) return;
      const entries: PlayEntry[] = [];
      const below: number[] = [];
      for (let index = 0; index < size; index++) {
        const place = address + index * this.#entrySize;
        const entry = this.#load(place);
        if (entry === 0n && !this.#places.has(place)) continue;
        const decoded = decodeEntry(mode, level, entry, { pse });
        const at = decoded.address === undefined ? "" : ` at 0x${decoded.address.toString(16)}`;
        entries.push({
          index,
          address: place,
          entry,
          says: `${decoded.kind}${at}${decoded.problems.length > 0 ? ", refused" : ""}`,
        });
        if (decoded.kind === "table" && decoded.problems.length === 0) below.push(Number(decoded.address));
      }
      const name = level === levelsOf(mode) ? `${entryName(level)}s, the root` : `${entryName(level)}s`;
      found.set(key, { address, level, name, size, entries });
      for (const table of below) visit(table, level - 1);
    };
    const root = mode === "pae" ? bitOf(CR3_PAE, "PDPT") : bitOf(PTE, "ADDRESS");
    visit(Number(this.#registers.cr3 & root), levelsOf(mode));
    return [...found.values()];
  }
}
