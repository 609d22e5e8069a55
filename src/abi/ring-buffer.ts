/** The kernel's ring buffer of trace events, as trace.dat files and trace_pipe_raw have it. */
import type { BitLayout } from "./bits.js";

const SOURCE = "Linux 6.1 include/linux/ring_buffer.h, kernel/trace/ring_buffer.c";

export const RING_EVENT: BitLayout = {
  prefix: "RING_EVENT",
  title: "Header of an event",
  source: SOURCE,
  fields: [
    {
      name: "TYPE_LEN",
      low: 0,
      width: 5,
      meaning: "length of the data in units of 4 bytes, 0: in the word behind; or a type",
    },
    { name: "TIME_DELTA", low: 5, width: 27, meaning: "time since the event before, in ns" },
  ],
};

/** Values of TYPE_LEN that are no length. */
export const RING_TYPE = { Padding: 29, TimeExtend: 30, TimeStamp: 31 } as const;

export const RING_COMMIT: BitLayout = {
  prefix: "RING_COMMIT",
  title: "How full a page is",
  source: SOURCE,
  fields: [
    { name: "SIZE", low: 0, width: 20, meaning: "bytes of events" },
    { name: "MISSED_STORED", low: 30, meaning: "the number of events that were lost stands behind the events" },
    { name: "MISSED_EVENTS", low: 31, meaning: "events were lost before the page's first" },
  ],
};
