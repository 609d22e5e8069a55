/** Every planted mistake. */
import { PLANTED, type Planted } from "./planted.js";
import { PLANTED_ALIASES } from "./planted-aliases.js";
import { PLANTED_FAULTS } from "./planted-faults.js";
import { PLANTED_HOST } from "./planted-host.js";
import { PLANTED_MMU } from "./planted-mmu.js";
import { PLANTED_TDP } from "./planted-tdp.js";

export const ALL_PLANTED: readonly Planted[] = [
  PLANTED,
  PLANTED_HOST,
  PLANTED_TDP,
  PLANTED_ALIASES,
  PLANTED_FAULTS,
  PLANTED_MMU,
].flat();
