/** Typed errors. All are thrown before anything has changed. */

/** Base of every error this package throws on purpose. */
export class PagingError extends Error {
  override name = "PagingError";
}

/** A configuration value is out of range or contradicts another one. */
export class ConfigError extends PagingError {
  override name = "ConfigError";
}

/** Loading registers would raise #GP(0): reserved bits in a present PAE PDPTE, a CR3 beyond MAXPHYADDR. */
export class GeneralProtectionError extends PagingError {
  override name = "GeneralProtectionError";
}

/** A guest-physical range is not (wholly) backed by memory. */
export class MemoryRangeError extends PagingError {
  override name = "MemoryRangeError";
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
