/** Why an access is translated or faults: each check with the entry and register bits that decide it. */
export { explain } from "./explain.js";
export { type Check, type CheckName, type CodeBit, type Explanation, type Factor, factorText } from "./explanation.js";
