/** The SPTE constructors by themselves, for tests that compare them with the reference; no part of the package's core. */
export {
  changedPageSpte,
  leafSpte,
  mmioAccess,
  mmioGeneration,
  mmioGfn,
  mmioSpte,
  pdpteSpte,
  restoreAccess,
  splitSpte,
  tableSpte,
  trackAccess,
} from "./spte/make";
