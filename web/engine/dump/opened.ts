/** An open dump, with the memory over which its spaces are walked. */
import { type GuestMemory, loadSync } from "x86-paging";
import type { AsyncDump } from "x86-paging/dump";
import type { RunningTask } from "../tasks.js";
import type { DumpAnswer } from "./answers.js";

/** Pages of tables that the core keeps: 16 MiB. */
const CACHED_PAGES = 4096;

let shared: ReturnType<typeof loadSync> | undefined;

export function engine(): ReturnType<typeof loadSync> {
  shared ??= loadSync();
  return shared;
}

export class OpenedDump {
  readonly id: number;
  readonly open: AsyncDump;
  #memory: GuestMemory | undefined;
  isClosed = false;

  constructor(id: number, open: AsyncDump) {
    this.id = id;
    this.open = open;
  }

  /** What the walks read. */
  get memory(): GuestMemory {
    this.#memory ??= engine().createMemory({ source: this.open.dump.tableSource, cachedPages: CACHED_PAGES });
    return this.#memory;
  }

  /** Runs what reads the dump, and fetches what it needs, as long as it is wanted. */
  read<T>(task: RunningTask | undefined, operation: () => T): Promise<T> {
    return this.open.fetching(() => {
      task?.signal.throwIfAborted();
      if (this.isClosed) throw new DOMException("another dump was opened", "AbortError");
      return operation();
    });
  }

  close(): void {
    this.isClosed = true;
    this.#memory?.dispose?.();
    this.open.dump.close();
  }

  answer(): DumpAnswer {
    const { name, facts, warnings, cpus, compressed, memory, tablesOnly } = this.open.dump;
    return {
      id: this.id,
      name,
      facts: [
        ...facts,
        ...(compressed ? [{ label: "packed", value: "compressed as a whole" }] : []),
        ...(tablesOnly ? [{ label: "content", value: "page tables and notes alone: what they map is not in it" }] : []),
      ],
      warnings,
      cpus: cpus.map(({ origin, cr3, rip, cpl }, number) => ({ number, origin, cr3, rip, cpl })),
      held: memory.held.bytes,
    };
  }
}
