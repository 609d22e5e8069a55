/** Which SPTE layout a kernel has; the layouts are declared in src/abi/spte-eras.ts. */
import { compareReleases, parseRelease, type Release } from "../abi/release.js";
import { SPTE_ERA_TABLE, SPTE_ERAS, type SpteEra, type SpteEraEntry } from "../abi/spte-eras.js";
import type { SpteLayout } from "../abi/spte-layout.js";
import { ConfigError } from "../errors.js";

/** All eras with their releases, changes and layouts. */
export function spteEras(): readonly SpteEraEntry[] {
  return SPTE_ERA_TABLE;
}

/** The layout of an era. */
export function spteLayoutOf(era: SpteEra): SpteLayout {
  const found = SPTE_ERA_TABLE.find((entry) => entry.era === era);
  if (found === undefined) {
    throw new ConfigError(`unknown SPTE layout ${era}: expected one of ${SPTE_ERAS.join(", ")}`);
  }
  return found.layout;
}

/**
 * The layout that a kernel release uses.
 * @param name "mainline", or a release such as "6.1" or "5.10.223". A series without a sublevel means its first release.
 * @throws ConfigError for anything else, for releases before 4.19, and for those whose layout was not looked up (5.5.3 and
 * later releases of 5.5).
 */
export function spteLayoutOfKernel(name: string): SpteLayout {
  if (name === "mainline") return SPTE_ERA_TABLE.at(-1)!.layout;
  const release = parseRelease(name);
  if (release === undefined) {
    throw new ConfigError(`unknown kernel "${name}": expected mainline or a release from 4.19, such as 6.1`);
  }
  const found = SPTE_ERA_TABLE.find(({ releases }) => releases.some((range) => isWithin(release, range)));
  if (found === undefined) {
    throw new ConfigError(
      `no SPTE layout is known for kernel ${name}: expected 4.19 or later (5.5.3 and later 5.5 were not looked up: name 5.4 or 5.6)`,
    );
  }
  return found.layout;
}

function isWithin(release: Release, [first, last]: readonly [first: string, last?: string]): boolean {
  if (compareReleases(release, parseRelease(first)!) < 0) return false;
  if (last === undefined) return true;
  if (!last.endsWith(".x")) return compareReleases(release, parseRelease(last)!) <= 0;
  const [major, minor] = parseRelease(last.slice(0, -2))!;
  return compareReleases(release, [major, minor, Number.POSITIVE_INFINITY]) <= 0;
}
