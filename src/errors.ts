/** Typed errors. All are thrown before anything has changed. */
import type { Fault } from "./api.js";

/** Base of the errors that this package throws on purpose, but for RangeError and TypeError of arguments that are none. */
export class PagingError extends Error {
  override name = "PagingError";

  /**
   * What it is, for programs: `ERR_` and the class's name, such as `ERR_CONFIG` or `ERR_PAGE_SOURCE`. It stays what it is where
   * `instanceof` fails: between copies of the package, across workers and in later versions.
   */
  get code(): string {
    const words = this.name.replace(/Error$/, "").replace(/(?<=[a-z])(?=[A-Z])/g, "_");
    return `ERR_${words.toUpperCase()}`;
  }
}

/** A configuration value is out of range or contradicts another one. */
export class ConfigError extends PagingError {
  override name = "ConfigError";
}

/** Loading registers would raise #GP(0): reserved bits in a present PAE PDPTE, a CR3 beyond MAXPHYADDR, CR4.PCIDE with a PCID. */
export class GeneralProtectionError extends PagingError {
  override name = "GeneralProtectionError";
}

/** VM entry, or VMRUN, refuses the guest's state: bits of CR3, CR4 or EFER that are reserved. Nothing was entered. */
export class VmEntryError extends PagingError {
  override name = "VmEntryError";
}

/** The second stage stops the loading of the PAE PDPTEs: a VM exit of the MOV to a control register, not a #GP. */
export class PdpteLoadError extends PagingError {
  override name = "PdpteLoadError";
  /** What the second stage reports; of an EPT violation no linear address is valid. */
  readonly fault: Fault;

  constructor(message: string, fault: Fault) {
    super(message);
    this.fault = fault;
  }
}

/** A guest-physical range is not (wholly) backed by memory. */
export class MemoryRangeError extends PagingError {
  override name = "MemoryRangeError";
}

/** A write to a page of a memory's source (a dump), which is only read. */
export class ReadOnlyMemoryError extends MemoryRangeError {
  override name = "ReadOnlyMemoryError";
}

/** Something was used after `dispose`. */
export class DisposedError extends PagingError {
  override name = "DisposedError";
}

/** A callback used what waits for it: a vCPU in mid-fault, or a virtual machine that is being changed. */
export class BusyError extends PagingError {
  override name = "BusyError";
}

/** A page source answered with something that is no answer, or needs the page that it is asked for. */
export class PageSourceError extends PagingError {
  override name = "PageSourceError";
}

/** Linear memory is exhausted. */
export class OutOfMemoryError extends PagingError {
  override name = "OutOfMemoryError";
}

/** The operation is not defined for this kind of space or memory. */
export class UnsupportedError extends PagingError {
  override name = "UnsupportedError";
}

/** Tables form a cycle, or describe more mappings than the limit. */
export class TableStructureError extends PagingError {
  override name = "TableStructureError";
}

/** The core's Wasm could not be fetched. */
export class LoadError extends PagingError {
  override name = "LoadError";
}

/** A saved state is damaged, or is of another version, kind or configuration than what it is to be put into. */
export class StateError extends PagingError {
  override name = "StateError";
}
