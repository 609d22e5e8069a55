/** Writes dump-core files in the order in which docs/misc/dump-core-format.txt of Xen describes them. */
import { concat, note } from "../builders.js";

export interface XenVcpu {
  cr0?: bigint;
  cr2?: bigint;
  cr3?: bigint;
  cr4?: bigint;
  ip?: bigint;
  cs?: number;
  flags?: bigint;
}

export interface XenOptions {
  /** Bytes by frame number, in this order; undefined is padding. */
  pages: readonly (readonly [frame: bigint | undefined, bytes: Uint8Array])[];
  paravirtual?: boolean;
  machine?: number;
  vcpus?: readonly XenVcpu[];
  /** The context is that of 32 bits, alone or in the space of the larger one. */
  context?: 64 | 32 | "32 in 64";
  magic?: bigint;
  pageSize?: bigint;
  /** What the header says, not what there is. */
  declaredPages?: bigint;
  format?: bigint;
  /** Sections that are not written. */
  without?: readonly string[];
}

const words64 = (...values: bigint[]) => new Uint8Array(BigUint64Array.from(values).buffer);
const words32 = (...values: bigint[]) => new Uint8Array(Uint32Array.from(values.map(Number)).buffer);
const ALL_ONES = (1n << 64n) - 1n;

/** struct vcpu_guest_context of x86-64, member after member; what is not a register that is asked for is junk. */
function context64(cpu: XenVcpu): Uint8Array {
  const junk = (count: number) => words64(...Array.from({ length: count }, () => 0x5555_5555_5555n));
  return concat(
    // fpu_ctxt; flags
    new Uint8Array(512).fill(0xf0),
    junk(1),
    // r15 to rdi; error_code and entry_vector; rip, cs, rflags; rsp, ss, es, ds, fs, gs
    junk(15),
    junk(1),
    words64(cpu.ip ?? 0n, BigInt(cpu.cs ?? 0x10), cpu.flags ?? 2n),
    junk(6),
    // trap_ctxt; ldt_base, ldt_ents; gdt_frames, gdt_ents; kernel_ss, kernel_sp
    new Uint8Array(256 * 16).fill(0x33),
    junk(2),
    junk(17),
    junk(2),
    words64(cpu.cr0 ?? 0x8001_0033n, 0x66n, cpu.cr2 ?? 0n, cpu.cr3 ?? 0n, cpu.cr4 ?? 0x20n, 0n, 0n, 0n),
    // debugreg; three callbacks; vm_assist; three segment bases
    junk(8),
    junk(3),
    junk(1),
    junk(3),
  );
}

function context32(cpu: XenVcpu): Uint8Array {
  const junk = (count: number) => words32(...Array.from({ length: count }, () => 0x5555_5555n));
  return concat(
    new Uint8Array(512).fill(0xf0),
    junk(1),
    // ebx to eax; error_code and entry_vector; eip, cs, eflags; esp, ss, es, ds, fs, gs
    junk(7),
    junk(1),
    words32(cpu.ip ?? 0n, BigInt(cpu.cs ?? 0x10), cpu.flags ?? 2n),
    junk(6),
    new Uint8Array(256 * 8).fill(0x33),
    junk(2),
    junk(17),
    junk(2),
    words32(cpu.cr0 ?? 0x8001_0033n, 0x66n, cpu.cr2 ?? 0n, cpu.cr3 ?? 0n, cpu.cr4 ?? 0x20n, 0n, 0n, 0n),
    junk(8),
    junk(4),
    junk(1),
  );
}

function contextOf(cpu: XenVcpu, context: XenOptions["context"]): Uint8Array {
  if (context === 32) return context32(cpu);
  if (context === "32 in 64") return concat(context32(cpu), new Uint8Array(5168 - 2800));
  return context64(cpu);
}

export function xenCore(options: XenOptions): Uint8Array {
  const { pages, paravirtual = false, vcpus = [{}] } = options;
  const magic = options.magic ?? (paravirtual ? 0xf00febedn : 0xf00febeen);
  const count = options.declaredPages ?? BigInt(pages.length);
  const notes = concat(
    note("Xen", 0x2000000, new Uint8Array(0)),
    note("Xen", 0x2000001, words64(magic, BigInt(vcpus.length), count, options.pageSize ?? 4096n)),
    note("Xen", 0x2000002, new Uint8Array(1272).fill(0x41)),
    note("Xen", 0x2000003, words64(options.format ?? 1n)),
  );
  // A paravirtualized guest's own numbers are of no use to its tables: they are anything here.
  const numbers = pages.map(([frame], i) => {
    if (!paravirtual) return words64(frame ?? ALL_ONES);
    return frame === undefined ? words64(ALL_ONES, ALL_ONES) : words64(BigInt(i) + 7n, frame);
  });
  const bodies: [name: string, bytes: Uint8Array, type: number][] = [
    ["", new Uint8Array(0), 0],
    [".shstrtab", new Uint8Array(0), 3],
    [".note.Xen", notes, 7],
    [".xen_prstatus", concat(...vcpus.map((cpu) => contextOf(cpu, options.context))), 1],
    [".xen_shared_info", new Uint8Array(4096).fill(0x77), 1],
    [".xen_pages", concat(...pages.map(([, bytes]) => bytes)), 1],
    [paravirtual ? ".xen_p2m" : ".xen_pfn", concat(...numbers), 1],
  ];
  const sections = bodies.filter(([name]) => options.without?.includes(name) !== true);
  let names = "";
  const nameAt = sections.map(([name]) => {
    names += `${name}\0`;
    return names.length - name.length - 1;
  });
  const strings = new TextEncoder().encode(names);
  const headers = new DataView(new ArrayBuffer(sections.length * 64));
  const parts: Uint8Array[] = [];
  let at = 64 + headers.byteLength;
  const put = (index: number, bytes: Uint8Array) => {
    headers.setBigUint64(index * 64 + 24, BigInt(at), true);
    headers.setBigUint64(index * 64 + 32, BigInt(bytes.length), true);
    parts.push(bytes);
    at += bytes.length;
  };
  sections.forEach(([name, bytes, type], index) => {
    headers.setUint32(index * 64, nameAt[index]!, true);
    headers.setUint32(index * 64 + 4, type, true);
    if (name === ".xen_pages") {
      // Pages begin at a page of the file.
      const padding = (4096 - (at % 4096)) % 4096;
      parts.push(new Uint8Array(padding));
      at += padding;
    }
    if (index > 1) put(index, bytes);
  });
  put(1, strings);
  const header = new DataView(new ArrayBuffer(64));
  new Uint8Array(header.buffer).set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 1]);
  header.setUint16(16, 4, true);
  header.setUint16(18, options.machine ?? 62, true);
  header.setUint32(20, 1, true);
  header.setBigUint64(40, 64n, true);
  header.setUint16(52, 64, true);
  header.setUint16(54, 56, true);
  header.setUint16(58, 64, true);
  header.setUint16(60, sections.length, true);
  header.setUint16(62, 1, true);
  return concat(new Uint8Array(header.buffer), new Uint8Array(headers.buffer), ...parts);
}
