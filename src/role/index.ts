/** `x86-paging/role`: roles of every kernel era and of this project. */

export { childRole } from "./child-role.js";
export type { DecodedRole, DecodedWord, RoleFields, RoleWords } from "./codec.js";
export { accessText, decodeRole, decodeWord, encodeWord, hexRole, joinRole, splitRole } from "./codec.js";
export type { LostField, RoleConversion } from "./convert.js";
export { convertRole } from "./convert.js";
export type { CpuRole, NestedEpt, RoleMode, RoleRegisters } from "./cpu-role.js";
export { cpuRole, guestLevel, joinCpuRole, nestedEptCpuRole, nestedNptCpuRole } from "./cpu-role.js";
export type { Era, RoleLayout } from "./layouts.js";
export { ERAS, layoutOf, layoutOfKernel, PROJECT_ROLE, roleLayouts } from "./layouts.js";
export type { TdpLevels } from "./root-role.js";
export {
  directRoot,
  kvm61DirectRoot,
  kvm61NestedEptRoot,
  kvm61NestedNptRoot,
  kvm61ShadowRoot,
  nestedEptRoot,
  nestedNptRoot,
  rootOf,
  shadowRoot,
  tdpLevel,
} from "./root-role.js";
export { roleTraceText } from "./trace-text.js";
export * from "./word.js";
