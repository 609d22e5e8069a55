/** A module worker: a task comes in, its survey goes out. */
import { run, type Task } from "./run.js";

self.onmessage = async ({ data }: MessageEvent<Task>) => {
  try {
    self.postMessage(await run(data));
  } catch (error) {
    // Becomes an error event of the worker, which a rejection does not.
    setTimeout(() => {
      throw error;
    });
  }
};
