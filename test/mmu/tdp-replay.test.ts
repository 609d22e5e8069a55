/** Recordings of the kernel under the TDP MMU. */
import { describeReplays } from "./replays.js";

// NPT, EPT with and without accessed and dirty bits, with and without PML, NX-huge-page mitigation.
describeReplays("recordings of the TDP MMU", ["tdp-recordings"], /./, 11);
