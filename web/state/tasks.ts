/** Long work that a worker does: shown with its progress, and cancelled. */
import { signal } from "@preact/signals";

export interface TaskState {
  readonly id: number;
  readonly label: string;
  /** 0 to 1; undefined where it is not known. */
  readonly done: number | undefined;
  cancel(): void;
}

/** What a worker's operation is given to run as a task (engine/tasks.ts). */
export interface TaskHandle {
  readonly id: number;
  readonly onProgress: (done: number | undefined) => void;
}

/** A worker whose operations can be cancelled. */
export interface Cancels {
  cancel(id: number): unknown;
}

export const tasks = signal<readonly TaskState[]>([]);
let ids = 0;
/** Work that is done sooner (ms) is not shown: it would only flicker. */
const SHOWN_AFTER = 200;

const change = (id: number, to: TaskState | undefined) => {
  if (to === undefined && !tasks.value.some((one) => one.id === id)) return;
  const others = tasks.value.filter((one) => one.id !== id);
  tasks.value = to === undefined ? others : [...others, to].sort((one, other) => one.id - other.id);
};

/** Runs an operation of `worker` as a task: `run` hands the handle on. Rejects with an AbortError where it is cancelled. */
export async function runTask<T>(
  worker: Cancels,
  label: string,
  run: (task: TaskHandle) => PromiseLike<T>,
): Promise<T> {
  const id = ++ids;
  const cancel = () => void worker.cancel(id);
  const onProgress = (done: number | undefined) => {
    if (tasks.value.some((one) => one.id === id)) change(id, { id, label, done, cancel });
  };
  const later = setTimeout(() => change(id, { id, label, done: undefined, cancel }), SHOWN_AFTER);
  try {
    return await run({ id, onProgress });
  } finally {
    clearTimeout(later);
    change(id, undefined);
  }
}
