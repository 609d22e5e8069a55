/** What gzip files have in common wherever they are inflated. */

/** Recognises gzip by its magic bytes (RFC 1952, "Member header and trailer"). */
export function isGzip(head: Uint8Array): boolean {
  return head[0] === 0x1f && head[1] === 0x8b;
}

/** What a gzip file may inflate to: bytes in all, and bytes of 4 KiB pages that are not all zero. */
export interface InflationLimits {
  readonly limit: number;
  readonly keptLimit: number;
}

/** So much is inflated in seconds, and may be a thousand times the file's size where it is mostly zeros. */
const LEAST: InflationLimits = { limit: 2 ** 32, keptLimit: 2 ** 30 };
/** Pages in use shrink to a third or so, dumps with free memory to a tenth: these multiples are no dump's. */
const RATIO: InflationLimits = { limit: 64, keptLimit: 16 };

/** The limits for a gzip file of so many bytes: the caller's, or those that no dump of that size needs. */
export function inflationLimits(compressedSize: number, maxInflated: number | undefined): InflationLimits {
  if (maxInflated !== undefined) return { limit: maxInflated, keptLimit: maxInflated };
  return {
    limit: Math.max(LEAST.limit, RATIO.limit * compressedSize),
    keptLimit: Math.max(LEAST.keptLimit, RATIO.keptLimit * compressedSize),
  };
}
