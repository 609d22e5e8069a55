/** Which kernels a trace can be of: what is told, what the file says, and what the texts and values of its events show. */
import { compareReleases, parseRelease, type Release } from "../abi/release.js";
import { SPTE_ERA_TABLE } from "../abi/spte-eras.js";
import type { SpteLayout } from "../abi/spte-layout.js";
import { layoutOfKernel, type RoleLayout } from "../role/index.js";
import { type SpteFormat, spteLayoutOfKernel } from "../spte/index.js";
import type { FormatEra } from "./dat/format-era.js";
import type { BodyParser } from "./events/body-parser.js";
import type { RoleForm } from "./events/role.js";

/** The kernels that may have written a trace, and why. */
export interface KernelRange {
  /** The release, where it is known: as given, or as the file names it. */
  readonly release?: string;
  /** The oldest and the newest that it can be; absent: no bound. */
  readonly oldest?: string;
  readonly newest?: string;
  /** What that rests on. */
  readonly because: readonly string[];
  /** The events are those of different kernels: no one kernel writes them all, and there are no bounds. */
  readonly contradictory?: true;
}

/** What was seen of a trace that tells of its kernel. */
export interface EraSigns {
  /** `--kernel`. */
  readonly given: string | undefined;
  /** What the file says, and where: `uname`, `header`. */
  readonly stated: string | undefined;
  readonly parser: BodyParser;
  /** What formats of events in the file tell. */
  readonly formats: FormatEra | undefined;
  /** kvm_tdp_mmu_spte_changed showed an empty entry of bit 63 alone. */
  readonly emptyBit63: boolean;
}

const isNewer = (one: string, other: string): boolean => compareReleases(parseRelease(one)!, parseRelease(other)!) > 0;

/** The release in a text such as `6.1.0-18-amd64`; undefined for none. */
export function releaseIn(text: string): string | undefined {
  const found = /(\d{1,3}\.\d{1,3}(?:\.\d{1,4})?)/.exec(text)?.[1];
  return found !== undefined && parseRelease(found) !== undefined ? found : undefined;
}

const FORM_BOUNDS: Readonly<Record<RoleForm, readonly [oldest: string | undefined, newest: string | undefined]>> = {
  pae: ["4.19", "5.0.1"],
  size: ["5.1", "7.1.5"],
  "four-rights": ["7.2", undefined],
};

export function kernelOf({ given, stated, parser, formats, emptyBit63 }: EraSigns): KernelRange {
  if (given === "mainline") return { oldest: "7.2", because: ["--kernel mainline"] };
  if (given !== undefined) return { release: given, oldest: given, newest: given, because: [`--kernel ${given}`] };
  const release = stated === undefined ? undefined : releaseIn(stated);
  if (release !== undefined)
    return { release, oldest: release, newest: release, because: [`the file names Linux ${stated}`] };
  let oldest: string | undefined;
  let newest: string | undefined;
  const because: string[] = [];
  const bound = (first: string | undefined, last: string | undefined, reason: string) => {
    const narrowsOldest = first !== undefined && first !== "4.19" && (oldest === undefined || isNewer(first, oldest));
    const narrowsNewest = last !== undefined && (newest === undefined || isNewer(newest, last));
    if (!narrowsOldest && !narrowsNewest) return;
    if (narrowsOldest) oldest = first;
    if (narrowsNewest) newest = last;
    because.push(reason);
  };
  for (const { format } of parser.used) {
    if (format.plugin) continue;
    const [first, last] = format.kernels;
    bound(first, last, `text of ${format.kind} as from ${first}${last === undefined ? " on" : ` to ${last}`}`);
  }
  if (formats !== undefined) bound(formats.oldest, formats.newest, formats.because.join("; "));
  const form = parser.roleForm;
  if (form !== undefined)
    bound(
      ...FORM_BOUNDS[form],
      `roles as ${form === "pae" ? "until 5.0" : form === "size" ? "from 5.1 to 7.1" : "from 7.2 on"}`,
    );
  if (emptyBit63) bound("6.10", undefined, "empty entries have bit 63, as from 6.10 on");
  // Traces of two kernels, one behind the other: any kernel's rules may hold.
  if (oldest !== undefined && newest !== undefined && isNewer(oldest, newest)) return { because, contradictory: true };
  return { ...(oldest !== undefined && { oldest }), ...(newest !== undefined && { newest }), because };
}

const NEWEST: Release = [999, 0, 0];

/** The SPTE layouts of all kernels in the range. */
export function layoutsIn({ release, oldest, newest }: KernelRange): SpteLayout[] {
  if (release !== undefined) {
    try {
      return [spteLayoutOfKernel(release)];
    } catch {
      return [];
    }
  }
  const from = oldest === undefined ? parseRelease("4.19")! : parseRelease(oldest)!;
  const to = newest === undefined ? NEWEST : parseRelease(newest)!;
  return SPTE_ERA_TABLE.filter(({ releases }) =>
    releases.some(([first, last]) => {
      const end = last === undefined ? NEWEST : endOf(last);
      return compareReleases(parseRelease(first)!, to) <= 0 && compareReleases(end, from) >= 0;
    }),
  ).map(({ layout }) => layout);
}

function endOf(last: string): Release {
  if (!last.endsWith(".x")) return parseRelease(last)!;
  const [major, minor] = parseRelease(last.slice(0, -2))!;
  return [major, minor, Number.POSITIVE_INFINITY];
}

/** The role layout of a release; undefined where none is known. */
export function roleLayoutOf(release: string | undefined): RoleLayout | undefined {
  if (release === undefined) return undefined;
  try {
    return layoutOfKernel(release);
  } catch {
    return undefined;
  }
}

/** Whether all kernels in the range are older than 5.1, whose direct pages have no bit for the size of guest entries. */
export const isBefore51 = (range: KernelRange): boolean => isBefore(range, "5.1");

/** Whether they are all older than 5.17, in whose direct pages guest entries have 8 bytes. */
export const isBefore517 = (range: KernelRange): boolean => isBefore(range, "5.17");

function isBefore({ newest }: KernelRange, release: string): boolean {
  return newest !== undefined && isNewer(release, newest);
}

/** How the kernel prints roles, where its release is known. */
export function formOf({ release }: KernelRange): RoleForm | undefined {
  const era = roleLayoutOf(release)?.era;
  if (era === undefined || era === "project") return undefined;
  return era === "5.0" ? "pae" : era === "7.2" ? "four-rights" : "size";
}

/** Which format a trace's SPTEs have, and what says so. */
export interface FormatSigns {
  readonly format: SpteFormat | undefined;
  readonly because: string;
}

export function formatOf(faults: Readonly<Record<"shadow" | "npt" | "ept", number>>): FormatSigns {
  const { shadow, npt, ept } = faults;
  // Page faults proper come beside either: on Intel of guests that L1 runs without EPT.
  if (ept > 0 && npt === 0) return { format: "ept", because: `${ept} EPT violations` };
  if (ept === 0 && npt > 0) return { format: "npt", because: `${npt} nested page faults` };
  if (ept === 0 && shadow > 0) return { format: "shadow", because: `${shadow} page faults, none of nested paging` };
  return {
    format: undefined,
    because: npt + ept + shadow === 0 ? "no page faults in the trace" : "faults of EPT and NPT in one trace",
  };
}

/** Throws ConfigError for a name of a kernel of which nothing is known. */
export function checkKernel(name: string | undefined): void {
  if (name === undefined || roleLayoutOf(name) !== undefined) return;
  spteLayoutOfKernel(name);
}
