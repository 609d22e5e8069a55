/** Recognises gzip by its magic bytes (RFC 1952, "Member header and trailer"). */
export function isGzip(head: Uint8Array): boolean {
  return head[0] === 0x1f && head[1] === 0x8b;
}
