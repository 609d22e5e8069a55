/** Recordings of the kernel under shadow paging. */
import { describeReplays } from "./replays.js";

// npt0 (SVM) and ept0 (VMX), on 4- and 5-level hosts.
const SHADOW = /^(la57-)?(npt0|ept0)/;
describeReplays("recordings of shadow paging", ["recordings", "shadow-recordings"], SHADOW, 21);
