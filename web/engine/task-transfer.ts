/**
 * How a task travels to a worker: Comlink makes proxies of whole arguments only, and a task is one whose progress comes back by a port.
 * Either side calls `sendTasks` before it sends or takes one (a module without exports in use would be left out of the build).
 */
import { transferHandlers } from "comlink";
import type { TaskInput } from "./tasks.js";

interface SentTask {
  readonly id: number;
  readonly port: MessagePort;
}

const isTask = (value: unknown): value is TaskInput =>
  typeof value === "object" && value !== null && typeof (value as TaskInput).onProgress === "function";

const handler = {
  canHandle: isTask,
  serialize({ id, onProgress }: TaskInput): [SentTask, Transferable[]] {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => void onProgress(data);
    return [{ id, port: port2 }, [port2]];
  },
  deserialize({ id, port }: SentTask): TaskInput {
    return { id, onProgress: (done) => port.postMessage(done) };
  },
};

export function sendTasks(): void {
  transferHandlers.set("task", handler as never);
}
