/**
 * Random guests on direct tables, in every kind of VM with two-dimensional paging. After each operation what the processor
 * finds in the tables is what the memslots and the host allow at that moment, and a dirty log loses no page.
 * A tenth of SEQUENCES sequences of operations are run per kind (nightly: more); SEED repeats a run, SHRINK=0 shows a
 * failure as it is.
 */
import { testGuests } from "./machines/run-of.js";

testGuests("direct", "reaches the host's pages with the rights that there are, and nothing else", 0.1);
