/** What an entry that is not present says, by the operating system that wrote it. */
import { bitOf, fieldOf, maskOf, valueIn } from "../abi/bits.js";
import { PTE } from "../abi/entries.js";
import {
  LINUX_NOT_PRESENT,
  LINUX_SWAP,
  LINUX_SWAP_ERAS,
  LINUX_SWAP32,
  type LinuxSwapType,
  WINDOWS_PROTOTYPE,
  WINDOWS_SOFTWARE,
  WINDOWS_TRANSITION,
  WINDOWS_VAD_PROTOTYPE,
} from "../abi/not-present.js";
import { compareReleases, type Release } from "../abi/release.js";

/** Systems whose entries are known. */
export const ENTRY_SYSTEMS = ["linux", "windows"] as const;
/** Whose entries they are. */
export type EntrySystem = (typeof ENTRY_SYSTEMS)[number];

/** What is known of the system. */
export interface NotPresentOptions {
  readonly system: EntrySystem;
  /** Entries of 4 bytes, which 32-bit paging has. Default false. */
  readonly narrow?: boolean;
  /** Bytes that the entry stands for: 4096 at level 1. Default 4096. */
  readonly pageSize?: bigint;
  /**
   * Bits of a page frame number, 1 to 40. Default: those of the layout; in Linux's entries with further bits behind the number 34, as
   * kernels with 4 levels have it (MAX_PHYSMEM_BITS less 12).
   */
  readonly frameBits?: number;
  /** Linux's release. Default: the newest that is known. */
  readonly release?: Release | undefined;
}

/** What such an entry says. */
export interface NotPresentEntry {
  readonly kind:
    | "no access"
    | "large page being changed"
    | "swap"
    | LinuxSwapType
    | "transition"
    | "prototype"
    | "page file"
    | "demand zero";
  /** Physical address of the page; undefined where it is in no memory. */
  readonly pa?: bigint;
  /** Number of the swap or page file, and the page of it. */
  readonly file?: number;
  readonly offset?: bigint;
  /** Virtual address of a prototype entry. */
  readonly prototype?: bigint;
  /** Windows' protection, 0 to 31. */
  readonly protection?: number;
  /** What else is set. */
  readonly flags: readonly string[];
}

const PAGE_BITS = 12n;
const PRESENT = bitOf(PTE, "P");
const LARGE = bitOf(LINUX_NOT_PRESENT, "PS");
const PROT_NONE = bitOf(LINUX_NOT_PRESENT, "PROT_NONE");
const ADDRESS = bitOf(LINUX_NOT_PRESENT, "ADDRESS");
/** What processors may set by an erratum: nothing, alone. */
const ERRATUM = bitOf(LINUX_NOT_PRESENT, "A") | bitOf(LINUX_NOT_PRESENT, "D");
/** Bits of a frame number in entries that have more behind it. */
const FRAME_BITS = 34;
/** Types of swap entries. */
const TYPES = 32;

/** Decodes an entry whose P is clear; undefined for one that stands for nothing. Throws a RangeError for one that is present. */
export function decodeNotPresent(entry: bigint, options: NotPresentOptions): NotPresentEntry | undefined {
  if ((entry & PRESENT) !== 0n)
    throw new RangeError(`expected an entry that is not present, found 0x${entry.toString(16)}`);
  return options.system === "linux" ? linuxEntry(entry, options) : windowsEntry(entry, options);
}

function linuxEntry(entry: bigint, options: NotPresentOptions): NotPresentEntry | undefined {
  if ((entry & ~ERRATUM) === 0n) return undefined;
  const narrow = options.narrow === true;
  const pageSize = options.pageSize ?? 1n << PAGE_BITS;
  const large = pageSize > 1n << PAGE_BITS && (entry & LARGE) !== 0n;
  // Of a large page the bits below its size are no address, and inverted ones.
  const pa = (narrow ? BigInt.asUintN(32, entry) : ~entry) & ADDRESS & ~(pageSize - 1n);
  if ((entry & PROT_NONE) !== 0n) return { kind: "no access", pa, flags: large ? ["large"] : [] };
  if (large) return { kind: "large page being changed", pa, flags: [] };
  const layout = narrow ? LINUX_SWAP32 : LINUX_SWAP;
  const type = Number(valueIn(fieldOf(layout, "TYPE"), entry));
  const offset = valueIn(fieldOf(layout, "OFFSET"), narrow ? entry : ~entry);
  const flags = [
    ...(!narrow && (entry & bitOf(LINUX_SWAP, "SD")) !== 0n ? ["soft-dirty"] : []),
    ...(!narrow && (entry & bitOf(LINUX_SWAP, "F")) !== 0n ? ["userfaultfd"] : []),
    ...(!narrow && (entry & bitOf(LINUX_SWAP, "E")) !== 0n ? ["exclusive"] : []),
  ];
  const kind = swapTypesOf(options.release)[TYPES - 1 - type];
  if (kind === undefined) return { kind: "swap", file: type, offset, flags };
  if (kind === "marker") return { kind, offset, flags };
  const bits = BigInt(options.frameBits ?? FRAME_BITS);
  const frame = BigInt.asUintN(Number(bits), offset);
  const more = offset >> bits;
  const isMigration = kind.startsWith("migration");
  // Young and dirty are kept behind the number (SWP_MIG_YOUNG, SWP_MIG_DIRTY).
  if (isMigration && more % 2n === 1n) flags.push("accessed");
  if (isMigration && (more / 2n) % 2n === 1n) flags.push("dirty");
  return { kind, pa: frame << PAGE_BITS, flags };
}

/** The kinds of a release, from type 31 down: those of the newest release that is not newer. */
function swapTypesOf(release: Release | undefined): readonly LinuxSwapType[] {
  const eras = LINUX_SWAP_ERAS.filter(({ since }) => release === undefined || compareReleases(since, release) <= 0);
  return (eras.at(-1) ?? LINUX_SWAP_ERAS[0]!).types;
}

function windowsEntry(entry: bigint, { frameBits }: NotPresentOptions): NotPresentEntry | undefined {
  if (entry === 0n) return undefined;
  const of = (name: string) => valueIn(fieldOf(WINDOWS_SOFTWARE, name), entry);
  const protection = Number(of("PROTECTION"));
  // The mask is the system's own; what it changes are bits that no address of its memory has.
  const flags = of("SWIZZLE") === 0n ? ["mask unknown"] : [];
  if (of("PROTOTYPE") === 1n) {
    const address = valueIn(fieldOf(WINDOWS_PROTOTYPE, "ADDRESS"), entry);
    if (address === WINDOWS_VAD_PROTOTYPE) return { kind: "prototype", protection, flags: ["VAD"] };
    return { kind: "prototype", prototype: BigInt.asUintN(64, BigInt.asIntN(48, address)), protection, flags: [] };
  }
  if (of("TRANSITION") === 1n) {
    const frame = (entry & maskOf(fieldOf(WINDOWS_TRANSITION, "FRAME"))) >> PAGE_BITS;
    const pa = (frameBits === undefined ? frame : BigInt.asUintN(frameBits, frame)) << PAGE_BITS;
    return { kind: "transition", pa, protection, flags };
  }
  const offset = of("OFFSET");
  if (offset === 0n) return { kind: "demand zero", protection, flags: [] };
  return { kind: "page file", file: Number(of("FILE")), offset, protection, flags };
}

/** In words, e.g. "swap file 0, page 0x12", "transition 0x1f000, protection 4". */
export function notPresentText({ kind, pa, file, offset, prototype, protection, flags }: NotPresentEntry): string {
  const hex = (value: bigint) => `0x${value.toString(16)}`;
  return [
    `${kind}${file === undefined ? "" : kind === "swap" ? ` file ${file}` : ` ${file}`}${pa === undefined ? "" : ` ${hex(pa)}`}`,
    ...(offset === undefined ? [] : [kind === "marker" ? hex(offset) : `page ${hex(offset)}`]),
    ...(prototype === undefined ? [] : [`at ${hex(prototype)}`]),
    ...(protection === undefined ? [] : [`protection ${protection}`]),
    ...flags,
  ].join(", ");
}
