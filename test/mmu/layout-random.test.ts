/**
 * Random guests whose memory lies as a PC's does (machines/layout-machine.ts), in every kind of VM with two-dimensional
 * paging. A tenth of SEQUENCES sequences of operations are run per kind (nightly: more); SEED repeats a run, SHRINK=0 shows a
 * failure as it is.
 */
import { testGuests } from "./machines/run-of.js";

testGuests("layout", "has what slots and host give, loses no more than it must, and gives all memory back", 0.1);
