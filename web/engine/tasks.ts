/** The worker's side of long work: it stops to hear whether it is still wanted, and says how far it is. */

/** So long (ms) does work go on between two looks at what else is asked. */
const TURN = 40;
/** So often (ms) at most is progress told. */
const TELLING = 100;

/** What the page hands over with a call; its functions are proxies. */
export interface TaskInput {
  readonly id: number;
  readonly onProgress: (done: number | undefined) => unknown;
}

export interface RunningTask {
  readonly signal: AbortSignal;
  /** Says how far the work is (0 to 1), and lets other calls in where it is time to. Throws an AbortError where it is cancelled. */
  turn(done?: number): Promise<void>;
}

export class Tasks {
  readonly #running = new Map<number, AbortController>();

  /** Ends a task, if it is running. */
  cancel(id: number): void {
    this.#running.get(id)?.abort(new DOMException("cancelled", "AbortError"));
  }

  async run<T>({ id, onProgress }: TaskInput, work: (task: RunningTask) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    const { signal } = controller;
    this.#running.set(id, controller);
    let turned = performance.now();
    let told = 0;
    const turn = async (done?: number) => {
      const now = performance.now();
      if (now - told >= TELLING) {
        told = now;
        onProgress(done);
      }
      if (now - turned >= TURN) {
        await new Promise((resolve) => setTimeout(resolve));
        turned = performance.now();
      }
      signal.throwIfAborted();
    };
    try {
      return await work({ signal, turn });
    } finally {
      this.#running.delete(id);
    }
  }
}
