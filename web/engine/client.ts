/** The page's side of its workers: calls are promises, errors keep their names. */
import { type Remote, transferHandlers, wrap } from "comlink";
import { sendTasks } from "./task-transfer.js";

interface SentError {
  readonly isError: boolean;
  readonly value: { readonly message: string; readonly name: string; readonly stack?: string } | unknown;
}

// Comlink's own handler makes plain errors of all.
const throwing = transferHandlers.get("throw")!;
transferHandlers.set("throw", {
  ...throwing,
  deserialize(sent: SentError): never {
    if (!sent.isError) throw sent.value;
    const { message, name, stack } = sent.value as Error;
    throw Object.assign(new Error(message), { name, stack });
  },
} as never);

/** A worker's operations. */
export type Client<T> = Remote<T>;

export function startWorker<T>(worker: Worker): Client<T> {
  sendTasks();
  return wrap<T>(worker);
}
