/** Bytes as lines: address, hexadecimal, characters. */

interface HexLinesProps {
  readonly label: string;
  readonly bytes: Uint8Array;
  /** Of the first byte. */
  readonly address: bigint;
  /** Digits of addresses. */
  readonly digits: number;
  /** Bytes of a line. */
  readonly width: number;
}

export function HexLines({ label, bytes, address, digits, width }: HexLinesProps) {
  const lines = Array.from({ length: bytes.length / width }, (_, line) => {
    const part = bytes.subarray(line * width, (line + 1) * width);
    const where = (address + BigInt(line * width)).toString(16).padStart(digits, "0");
    const words = [...part].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = [...part].map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·")).join("");
    return `${where}  ${words}  ${text}`;
  });
  return (
    <pre class="hex-lines" role="region" aria-label={label} tabIndex={0}>
      {lines.join("\n")}
    </pre>
  );
}
