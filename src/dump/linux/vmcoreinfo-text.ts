/** Values in the text of VMCOREINFO: lines of name=value. */

/** SYMBOL(name): an address. Undefined where the text does not have it, as the next ones. */
export function symbolIn(text: string, name: string): bigint | undefined {
  return hexadecimal(new RegExp(`^SYMBOL\\(${name}\\)=([0-9a-f]{1,16})$`, "m").exec(text)?.[1]);
}

/** NUMBER(name), which is decimal and may be negative; also OFFSET(name), SIZE(name) and LENGTH(name). */
export function numberIn(text: string, name: string, kind = "NUMBER"): bigint | undefined {
  const value = new RegExp(`^${kind}\\(${name.replaceAll(".", "\\.")}\\)=(.*)$`, "m").exec(text)?.[1] ?? "";
  return /^-?\d{1,20}$/.test(value) ? BigInt(value) : undefined;
}

/** KERNELOFFSET: how far the kernel's image was moved from where it was linked for. */
export function kernelOffsetIn(text: string): bigint | undefined {
  return hexadecimal(/^KERNELOFFSET=([0-9a-f]{1,16})$/m.exec(text)?.[1]);
}

function hexadecimal(digits: string | undefined): bigint | undefined {
  return digits === undefined ? undefined : BigInt(`0x${digits}`);
}
