/** Recordings of the kernel under NPT and EPT with classic direct tables, and of nested guests. */
import { describeReplays } from "./replays.js";

// NPT and EPT, with and without accessed and dirty bits, and nested ones.
describeReplays("recordings of the classic direct MMU", ["recordings", "direct-recordings"], /-tdp0/, 12);
