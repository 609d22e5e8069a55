/** What Linux tells those who read its memory (kernel/crash_core.c): lines of text, in a note of the dump or in RAM. */
import { bitOf } from "../abi/bits.js";
import { PTE } from "../abi/entries.js";
import { numberIn, symbolIn } from "./linux/vmcoreinfo-text.js";

/** Where the kernel image is mapped on x86-64 (__START_KERNEL_map), at physical address phys_base. */
const START_KERNEL_MAP = 0xffff_ffff_8000_0000n;
/** Where 32-bit kernels map RAM, unless they were built with another split of the address space. */
const PAGE_OFFSET_32 = 0xc000_0000n;

/** The kernel's own page tables, by VMCOREINFO. */
export interface KernelRoot {
  readonly bits: 32 | 64;
  /** Physical address of the root table. */
  readonly cr3: bigint;
  /** The same address as the kernel maps it. */
  readonly va: bigint;
  readonly pae: boolean;
  readonly fiveLevel: boolean;
  /** The bit of entries that says that a page is encrypted; 0 where there is none. */
  readonly encryptionMask: bigint;
}

/** The kernel's release; undefined where the text does not have it. */
export function kernelRelease(text: string | undefined): string | undefined {
  return /^OSRELEASE=([^\n]*)$/m.exec(text ?? "")?.[1];
}

/**
 * Where the kernel's tables are. x86-64 says SYMBOL(swapper_pg_dir) or SYMBOL(init_top_pgt), a linear address in the kernel
 * image's mapping, and NUMBER(phys_base) (arch/x86/kernel/vmcore_info_64.c); i386 SYMBOL(swapper_pg_dir) and
 * CONFIG_X86_PAE. Undefined where the text does not say enough.
 */
export function kernelRoot(text: string): KernelRoot | undefined {
  const va = symbolIn(text, "swapper_pg_dir") ?? symbolIn(text, "init_top_pgt");
  if (va === undefined) return undefined;
  const physBase = numberIn(text, "phys_base");
  const sme = BigInt.asUintN(64, numberIn(text, "sme_mask") ?? 0n);
  if (va >= START_KERNEL_MAP && physBase !== undefined) {
    return {
      bits: 64,
      cr3: BigInt.asUintN(64, va - START_KERNEL_MAP + physBase),
      va,
      pae: true,
      fiveLevel: numberIn(text, "pgtable_l5_enabled") === 1n,
      encryptionMask: sme & bitOf(PTE, "ADDRESS"),
    };
  }
  if (va < PAGE_OFFSET_32 || va >= 1n << 32n) return undefined;
  const pae = /^CONFIG_X86_PAE=y$/m.test(text);
  return { bits: 32, cr3: va - PAGE_OFFSET_32, va, pae, fiveLevel: false, encryptionMask: 0n };
}
