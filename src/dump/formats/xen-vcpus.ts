/** Registers of a Xen guest's processors: the section .xen_prstatus has a vcpu_guest_context of each. */
import { bitOf, flagOf } from "../../abi/bits.js";
import { SELECTOR } from "../../abi/processor.js";
import { CR0, CR4 } from "../../abi/registers.js";
import { type ByteSource, holdsBytes, readExactly } from "../bytes/byte-source.js";
import type { DumpCpu, DumpMachine } from "./content.js";
import type { XenHeader } from "./xen-sections.js";

const RPL = flagOf(SELECTOR, "RPL");
const PG = bitOf(CR0, "PG");
const PAE = bitOf(CR4, "PAE");

/**
 * struct vcpu_guest_context (xen/include/public/arch-x86/xen.h, with cpu_user_regs of xen-x86_64.h or xen-x86_32.h):
 * 512 bytes of FPU, flags, user_regs, 256 traps, LDT, GDT, the kernel's stack, eight control registers, and more.
 */
interface ContextLayout {
  readonly word: 4 | 8;
  readonly ip: number;
  readonly cs: number;
  readonly flags: number;
  readonly cr0: number;
  readonly bytes: number;
}
const CONTEXT_64: ContextLayout = { word: 8, ip: 648, cs: 656, flags: 664, cr0: 4984, bytes: 5168 };
const CONTEXT_32: ContextLayout = { word: 4, ip: 548, cs: 552, flags: 556, cr0: 2716, bytes: 2800 };

export interface XenVcpus {
  readonly cpus: readonly DumpCpu[];
  readonly warnings: readonly string[];
}

/** Reads the registers of all processors; what is not there is said. */
export function readXenVcpus(source: ByteSource, header: XenHeader, machine: DumpMachine): XenVcpus {
  const section = header.sections.get(".xen_prstatus");
  const { vcpus, paravirtual } = header;
  const none = (why: string): XenVcpus => ({ cpus: [], warnings: [`registers are not known: ${why}`] });
  if (section === undefined || vcpus === 0) return none("the file has none");
  // Tools that know guests of both widths write the larger structure for either.
  const each = Math.floor(section.size / vcpus);
  const layout = each < CONTEXT_64.bytes || (paravirtual && machine === "i386") ? CONTEXT_32 : CONTEXT_64;
  if (each < layout.bytes) return none(`those of a processor take ${layout.bytes} bytes, and the file has ${each}`);
  const cpus: DumpCpu[] = [];
  for (let index = 0; index < vcpus; index++) {
    const at = section.offset + index * each;
    if (!holdsBytes(source, at, layout.bytes)) return none("the file breaks off before their end");
    const cpu = readVcpu(readExactly(source, at, layout.bytes, "the registers of a processor"), layout, index);
    if (!paravirtual) {
      cpus.push(cpu);
      continue;
    }
    const root = layout.word === 8 ? cpu.cr3 : unfolded(cpu.cr3);
    if (layout.word === 4 && root >= 1n << 32n) {
      return none(
        `the tables of processor ${index} are at machine address 0x${root.toString(16)}, which no CR3 of PAE has`,
      );
    }
    // Of CR0 and CR4 such a guest has what Xen shows it: it runs under Xen's paging whatever they say.
    cpus.push({ ...cpu, cr0: cpu.cr0 | PG, cr3: root, cr4: cpu.cr4 | PAE });
  }
  return { cpus, warnings: [] };
}

function readVcpu(view: DataView, layout: ContextLayout, index: number): DumpCpu {
  const { word, ip, cs, flags, cr0 } = layout;
  const register = (at: number) => (word === 8 ? view.getBigUint64(at, true) : BigInt(view.getUint32(at, true)));
  return {
    index,
    origin: "section .xen_prstatus",
    cr0: register(cr0),
    cr2: register(cr0 + 2 * word),
    cr3: register(cr0 + 3 * word),
    cr4: register(cr0 + 4 * word),
    efer: undefined,
    rip: register(ip),
    rflags: register(flags),
    cpl: view.getUint16(cs, true) & RPL,
  };
}

/** CR3 of a paravirtualized guest of 32 bits: the upper 12 bits of a frame number are in its lower 12 (xen_cr3_to_pfn). */
function unfolded(cr3: bigint): bigint {
  const inFrame = cr3 % 4096n;
  return cr3 - inFrame + inFrame * 2n ** 32n;
}
