/**
 * Random L1 hypervisors and their nested guests, in every kind of VM with two-dimensional paging. After each operation what
 * the processor finds in the shadow of L1's second stage is what L1's tables, the memslots and the host allow, now or at some
 * time since L1's last flush; L2's faults are those of its own tables or of L1's; a dirty log loses no page.
 * A tenth of SEQUENCES sequences of operations are run per host (nightly: more); SEED repeats a run, SHRINK=0 shows a
 * failure as it is.
 */
import { testGuests } from "./machines/run-of.js";

testGuests("nested", "reaches no more than L1 and the host allow", 0.1);
