/**
 * Random guests under shadow paging. After each operation, what the processor finds in the shadow tables must be what the
 * guest's own tables, the memslots and the host allow, now or at some time since the guest's last flush: never more.
 * SEQUENCES sets how many sequences of operations are run (nightly: 2000 and more); SEED repeats a run, SHRINK=0 shows a
 * failure as it is.
 */
import { testGuests } from "./machines/run-of.js";

testGuests("shadow", "never reaches more than its tables and slots allow", 1);
