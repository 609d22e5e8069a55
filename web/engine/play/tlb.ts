/**
 * The playground's TLB: what a processor may keep of translations. An entry is used as long as nobody invalidates it, whatever
 * the tables say meanwhile; one that does not allow an access is of no use to it, and the tables are walked.
 */
import type { Mapped, Rights } from "x86-paging";

export interface TlbEntry {
  /** First linear address of the page. */
  readonly page: bigint;
  /** First physical address. */
  readonly frame: bigint;
  /** Bytes. */
  readonly size: number;
  readonly rights: Rights;
  /** The entry's dirty flag is set: writes need no walk. */
  readonly dirty: boolean;
  readonly global: boolean;
}

/** What is asked of an entry. */
export interface TlbAccess {
  readonly kind: "read" | "write" | "fetch";
  readonly user: boolean;
  readonly ac: boolean;
  /** Of registers, as they are now: they are no part of an entry. */
  readonly wp: boolean;
  readonly smep: boolean;
  readonly smap: boolean;
}

const ENTRIES = 16;

export class Tlb {
  #entries: TlbEntry[] = [];

  /** The last used first. */
  get entries(): readonly TlbEntry[] {
    return this.#entries;
  }

  /** The entry that an access uses, or undefined where there is none, or it does not allow the access. */
  find(address: bigint, access: TlbAccess): TlbEntry | undefined {
    const entry = this.#entries.find(({ page, size }) => address >= page && address < page + BigInt(size));
    if (entry === undefined || !allows(entry, access)) return undefined;
    this.#entries = [entry, ...this.#entries.filter((one) => one !== entry)];
    return entry;
  }

  fill(address: bigint, { pa, pageSize, rights, global }: Mapped, dirty: boolean): void {
    const offset = BigInt(pageSize - 1);
    const entry = { page: address & ~offset, frame: pa & ~offset, size: pageSize, rights, dirty, global };
    this.invalidate(address);
    this.#entries = [entry, ...this.#entries].slice(0, ENTRIES);
  }

  /** INVLPG: a global entry goes, too. */
  invalidate(address: bigint): void {
    this.#entries = this.#entries.filter(({ page, size }) => address < page || address >= page + BigInt(size));
  }

  /** MOV to CR3 leaves the global ones, other writes leave none. */
  flush({ global }: { readonly global: boolean }): void {
    this.#entries = global ? [] : this.#entries.filter((entry) => entry.global);
  }
}

function allows({ rights, dirty }: TlbEntry, { kind, user, ac, wp, smep, smap }: TlbAccess): boolean {
  if (user && !rights.user) return false;
  if (kind === "fetch") return rights.execute && (user || !smep || !rights.user);
  if (!user && smap && !ac && rights.user) return false;
  if (kind === "read") return true;
  return dirty && (rights.write || (!user && !wp));
}
