/** Names of kernel releases: "6.1", "5.10.223". */

/** Version, patch level and sublevel. */
export type Release = readonly [major: number, minor: number, sublevel: number];

/** The release of that name, a series' first where it has no sublevel; undefined for anything else. */
export function parseRelease(name: string): Release | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})(?:\.(\d{1,4}))?$/.exec(name);
  return match === null ? undefined : [Number(match[1]), Number(match[2]), Number(match[3] ?? 0)];
}

/** Below 0 where `a` is older than `b`. */
export function compareReleases(a: Release, b: Release): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
}
