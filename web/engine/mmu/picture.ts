/** A shadow MMU as a picture of one moment: pages with their links, roots, the guest's tables; and what changed since another. */
import { bitOf } from "x86-paging/abi";
import {
  accessText,
  decodeRole,
  layoutOf,
  type RoleLayout,
  roleHas4ByteGpte,
  roleIsDirect,
  roleLevel,
  roleTraceText,
} from "x86-paging/role";
import { spteLayoutOfKernel } from "x86-paging/spte";

/** An entry that stands for something. */
export interface PictureEntry {
  readonly index: number;
  readonly spte: bigint;
  /** The page that it leads to. */
  readonly to?: string;
}

export interface PicturePage {
  /** Names it among those of one picture: the host-physical address of its table. */
  readonly id: string;
  readonly gfn: bigint;
  readonly role: number;
  /** Whose layout the role has: this project's or the recorded kernel's. */
  readonly layout: "project" | "5.19";
  readonly level: number;
  readonly direct: boolean;
  readonly unsync: boolean;
  /** How many roots it is. */
  readonly rootCount: number;
  readonly tdp: boolean;
  /** A table outside the hash: `pae_root`, `pml4_root`, `pml5_root`. */
  readonly special?: string;
  /** Role fields that are not zero, access as letters. */
  readonly fields: Readonly<Record<string, string>>;
  /** As the kernel's trace prints it; empty of a special root, which has no role. */
  readonly roleText: string;
  readonly entries: readonly PictureEntry[];
  /** Entries that are not listed. */
  readonly more: number;
}

export interface PictureRoot {
  readonly pgd: bigint;
  /** Absent where its page is not among those of the picture. */
  readonly page?: string;
}

export interface PictureRoots {
  readonly context: string;
  readonly active: boolean;
  readonly current: PictureRoot | undefined;
  readonly previous: readonly (PictureRoot | undefined)[];
  /** Switches that found a root, and that did not; of recordings they are not known. */
  readonly hits?: number;
  readonly misses?: number;
}

/** A table of the guest's that a page shadows. */
export interface PictureTable {
  readonly gfn: bigint;
  /** The guest's level. */
  readonly level: number;
  readonly size: 4 | 8;
  readonly entries: readonly { readonly index: number; readonly entry: bigint }[];
  readonly more: number;
}

export interface Picture {
  /** Roots first, by level. */
  readonly pages: readonly PicturePage[];
  readonly roots: readonly PictureRoots[];
  readonly tables: readonly PictureTable[];
}

/** What changed from one picture to the next. */
export interface Changes {
  readonly made: readonly string[];
  readonly changed: readonly string[];
  readonly gone: readonly PicturePage[];
  /** `gfn/index` of guest entries. */
  readonly guest: readonly string[];
}

/** Entries of a table that are listed. */
const MOST_ENTRIES = 64;
/** Bits of an SPTE that are an address. */
const ADDRESS = bitOf(spteLayoutOfKernel("6.1").software, "ADDRESS");

export const idOf = (hostAddress: bigint): string => hostAddress.toString(16);

const LAYOUTS: Readonly<Record<PicturePage["layout"], RoleLayout>> = {
  project: layoutOf("project"),
  "5.19": layoutOf("5.19"),
};

function fieldsOf(role: number, layout: PicturePage["layout"]): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const [name, value] of Object.entries(decodeRole(LAYOUTS[layout], { base: role }).base.fields)) {
    if (name === "access") fields[name] = accessText(LAYOUTS[layout], value);
    else if (value !== 0) fields[name] = `${value}`;
  }
  return fields;
}

/** What is known of a page, whoever tells it. */
export interface PageFacts {
  readonly hostAddress: bigint;
  readonly gfn: bigint;
  readonly role: number;
  readonly layout: PicturePage["layout"];
  readonly unsync: boolean;
  readonly rootCount: number;
  readonly tdp: boolean;
  readonly special?: string;
  readonly level?: number;
  readonly entries: ReadonlyMap<number, bigint>;
}

/** Pages with the links between them: roots first, then from the top level down, by gfn. */
export function picturePages(facts: readonly PageFacts[]): PicturePage[] {
  const ids = new Set(facts.map(({ hostAddress }) => idOf(hostAddress)));
  const pages = facts.map((page): PicturePage => {
    const { role, layout, special } = page;
    const level = page.level ?? roleLevel(role);
    const all = [...page.entries].sort(([a], [b]) => a - b);
    return {
      id: idOf(page.hostAddress),
      gfn: page.gfn,
      role,
      layout,
      level,
      direct: special === undefined && roleIsDirect(role),
      unsync: page.unsync,
      rootCount: page.rootCount,
      tdp: page.tdp,
      ...(special === undefined ? {} : { special }),
      fields: special === undefined ? fieldsOf(role, layout) : {},
      roleText: special === undefined ? roleTraceText(role) : "",
      entries: all.slice(0, MOST_ENTRIES).map(([index, spte]) => {
        const to = idOf(spte & ADDRESS);
        return { index, spte, ...(level > 1 && ids.has(to) ? { to } : {}) };
      }),
      more: Math.max(0, all.length - MOST_ENTRIES),
    };
  });
  const order = (a: PicturePage, b: PicturePage) => b.level - a.level || Number(a.gfn - b.gfn) || a.role - b.role;
  return pages.sort(order);
}

/** The guest's tables that pages shadow, each once. */
export function guestTables(
  pages: readonly PicturePage[],
  read: (gpa: bigint, length: number) => Uint8Array | undefined,
): PictureTable[] {
  const tables = new Map<bigint, PictureTable>();
  for (const page of pages) {
    if (page.direct || page.special !== undefined || page.tdp) continue;
    // Pages come from the top level down: of those that stand for one table, the lowest is at the guest's own level.
    const known = tables.get(page.gfn);
    if (known !== undefined) {
      tables.set(page.gfn, { ...known, level: page.level });
      continue;
    }
    const bytes = read(page.gfn << 12n, 4096);
    if (bytes === undefined) continue;
    const size = roleHas4ByteGpte(page.role) ? 4 : 8;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const entries: { index: number; entry: bigint }[] = [];
    let more = 0;
    for (let at = 0; at < 4096; at += size) {
      const entry = size === 4 ? BigInt(view.getUint32(at, true)) : view.getBigUint64(at, true);
      if (entry === 0n) continue;
      if (entries.length < MOST_ENTRIES) entries.push({ index: at / size, entry });
      else more++;
    }
    tables.set(page.gfn, { gfn: page.gfn, level: page.level, size, entries, more });
  }
  return [...tables.values()].sort((a, b) => b.level - a.level || Number(a.gfn - b.gfn));
}

/** Two pages of one address are one only if they stand for the same. */
const sameOne = (a: PicturePage, b: PicturePage) => a.gfn === b.gfn && a.role === b.role && a.special === b.special;

const stateOf = ({ unsync, rootCount, entries, more }: PicturePage): string =>
  `${unsync} ${rootCount} ${more} ${entries.map(({ index, spte }) => `${index}:${spte.toString(16)}`).join(" ")}`;

/** What changed; in a first picture nothing did. */
export function changesBetween(before: Picture | undefined, after: Picture): Changes {
  if (before === undefined) return { made: [], changed: [], gone: [], guest: [] };
  const old = new Map(before.pages.map((page) => [page.id, page]));
  const now = new Map(after.pages.map((page) => [page.id, page]));
  const stays = (page: PicturePage, others: ReadonlyMap<string, PicturePage>) => {
    const other = others.get(page.id);
    return other !== undefined && sameOne(page, other);
  };
  const words = (picture: Picture) =>
    new Map(
      picture.tables.flatMap(({ gfn, entries }) =>
        entries.map(({ index, entry }) => [`${gfn.toString(16)}/${index}`, entry] as const),
      ),
    );
  const [oldWords, newWords] = [words(before), words(after)];
  const known = new Set(before.tables.map(({ gfn }) => gfn.toString(16)));
  return {
    made: after.pages.filter((page) => !stays(page, old)).map(({ id }) => id),
    changed: after.pages
      .filter((page) => stays(page, old) && stateOf(page) !== stateOf(old.get(page.id)!))
      .map(({ id }) => id),
    gone: before.pages.filter((page) => !stays(page, now)),
    guest: [...newWords]
      .filter(([place, entry]) => known.has(place.split("/")[0]!) && oldWords.get(place) !== entry)
      .map(([place]) => place),
  };
}
