/** Small memory dumps made in code, one quirk at a time. */

export interface Segment {
  gpa: bigint;
  bytes?: Uint8Array;
  /** Default: the length of `bytes`. */
  memsz?: bigint;
  /** Default: where `bytes` are put. */
  offset?: bigint;
  filesz?: bigint;
  vaddr?: bigint;
}

export interface ElfOptions {
  bits?: 32 | 64;
  machine?: number;
  type?: number;
  ehsize?: number;
  segments?: Segment[];
  notes?: Uint8Array;
  /** Bytes put before the program headers, e.g. a section header table. */
  beforeProgramHeaders?: number;
  /** Write e_phnum PN_XNUM and put the count into section header 0. */
  xnum?: boolean;
  /** Bytes between the program headers and the data, to make p_offset unaligned. */
  gap?: number;
}

/** An ELF core; p_align is 0 throughout, as QEMU writes it. */
export function elfCore(options: ElfOptions = {}): Uint8Array {
  const bits = options.bits ?? 64;
  const wide = bits === 64;
  const segments = options.segments ?? [{ gpa: 0x1000n, bytes: page(1) }];
  const headerSize = wide ? 64 : 52;
  const entrySize = wide ? 56 : 32;
  const sectionSize = wide ? 64 : 40;
  const before = Math.max(options.beforeProgramHeaders ?? 0, options.xnum ? sectionSize : 0);
  const count = segments.length + (options.notes ? 1 : 0);
  const phoff = headerSize + before;
  let dataAt = phoff + count * entrySize + (options.gap ?? 0);
  const noteAt = dataAt;
  if (options.notes) dataAt += options.notes.length;
  const offsets = segments.map((segment) => {
    const at = dataAt;
    dataAt += segment.bytes?.length ?? 0;
    return at;
  });
  const file = new Uint8Array(dataAt);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  view.setUint16(16, options.type ?? 4, true);
  view.setUint16(18, options.machine ?? (wide ? 62 : 3), true);
  view.setUint32(20, 1, true);
  const put = (at: number, value: bigint) => {
    if (wide) view.setBigUint64(at, value, true);
    else view.setUint32(at, Number(value), true);
  };
  put(wide ? 32 : 28, BigInt(phoff));
  put(wide ? 40 : 32, options.xnum ? BigInt(headerSize) : 0n);
  view.setUint16(wide ? 52 : 40, options.ehsize ?? headerSize, true);
  view.setUint16(wide ? 54 : 42, entrySize, true);
  view.setUint16(wide ? 56 : 44, options.xnum ? 0xffff : count, true);
  if (options.xnum) view.setUint32(headerSize + (wide ? 44 : 28), count, true);
  const programHeader = (index: number, type: number, segment: Required<Omit<Segment, "bytes">>) => {
    const at = phoff + index * entrySize;
    view.setUint32(at, type, true);
    put(at + (wide ? 8 : 4), segment.offset);
    put(at + (wide ? 16 : 8), segment.vaddr);
    put(at + (wide ? 24 : 12), segment.gpa);
    put(at + (wide ? 32 : 16), segment.filesz);
    put(at + (wide ? 40 : 20), segment.memsz);
  };
  let index = 0;
  if (options.notes) {
    const size = BigInt(options.notes.length);
    programHeader(index++, 4, { gpa: 0n, vaddr: 0n, offset: BigInt(noteAt), filesz: size, memsz: size });
    file.set(options.notes, noteAt);
  }
  segments.forEach((segment, i) => {
    const size = BigInt(segment.bytes?.length ?? 0);
    programHeader(index++, 1, {
      gpa: segment.gpa,
      vaddr: segment.vaddr ?? 0n,
      offset: segment.offset ?? BigInt(offsets[i]!),
      filesz: segment.filesz ?? size,
      memsz: segment.memsz ?? segment.filesz ?? size,
    });
    if (segment.bytes) file.set(segment.bytes, offsets[i]!);
  });
  return file;
}

/** 4096 bytes of the same value. */
export function page(value: number, length = 4096): Uint8Array {
  return new Uint8Array(length).fill(value);
}

export function note(name: string, type: number, description: Uint8Array): Uint8Array {
  const nameBytes = new TextEncoder().encode(`${name}\0`);
  const nameSize = Math.ceil(nameBytes.length / 4) * 4;
  const bytes = new Uint8Array(12 + nameSize + Math.ceil(description.length / 4) * 4);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, nameBytes.length, true);
  view.setUint32(4, description.length, true);
  view.setUint32(8, type, true);
  bytes.set(nameBytes, 12);
  bytes.set(description, 12 + nameSize);
  return bytes;
}

export interface CpuRegisters {
  cr0?: bigint;
  cr2?: bigint;
  cr3?: bigint;
  cr4?: bigint;
  rip?: bigint;
  cs?: number;
}

/** QEMU's processor note. */
export function qemuNote(registers: CpuRegisters, version = 1, size = 440, declared = size): Uint8Array {
  const description = new Uint8Array(size);
  const view = new DataView(description.buffer);
  view.setUint32(0, version, true);
  view.setUint32(4, declared, true);
  if (size >= 432) {
    view.setBigUint64(136, registers.rip ?? 0n, true);
    view.setUint32(152, registers.cs ?? 0x10, true);
    view.setBigUint64(392, registers.cr0 ?? 0x8005_0033n, true);
    view.setBigUint64(408, registers.cr2 ?? 0n, true);
    view.setBigUint64(416, registers.cr3 ?? 0n, true);
    view.setBigUint64(424, registers.cr4 ?? 0x6f0n, true);
  }
  return note("QEMU", 0, description);
}

export function prstatusNote(machine: 3 | 62 = 62): Uint8Array {
  return note("CORE", 1, new Uint8Array(machine === 62 ? 336 : 144));
}

export function concat(...parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function limeRange(
  gpa: bigint,
  bytes: Uint8Array,
  header: { magic?: number; version?: number; last?: bigint } = {},
): Uint8Array {
  const head = new Uint8Array(32);
  const view = new DataView(head.buffer);
  view.setUint32(0, header.magic ?? 0x4c694d45, true);
  view.setUint32(4, header.version ?? 1, true);
  view.setBigUint64(8, gpa, true);
  view.setBigUint64(16, header.last ?? gpa + BigInt(bytes.length) - 1n, true);
  return concat(head, bytes);
}

/** A page of 64-bit words, `entries` by index. */
export function table64(entries: Record<number, bigint>): Uint8Array {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of Object.entries(entries)) view.setBigUint64(Number(index) * 8, value, true);
  return bytes;
}

/** A page of 32-bit words, `entries` by index. */
export function table32(entries: Record<number, number>): Uint8Array {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of Object.entries(entries)) view.setUint32(Number(index) * 4, value, true);
  return bytes;
}
