/** What went wrong last: shown until the user does something else. */
import { signal } from "@preact/signals";

export const problem = signal<string | undefined>(undefined);

/** An error's text for people; workers send errors as plain objects. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Runs what the user asked for, and shows what went wrong. What was cancelled is nothing wrong. */
export function guarded(action: () => unknown): Promise<void> {
  problem.value = undefined;
  return noted(action);
}

/** Does what nobody asked for just now, such as fetching what comes into sight: what went wrong before stays in sight. */
export async function noted(action: () => unknown): Promise<void> {
  try {
    await action();
  } catch (error) {
    if ((error as Error | undefined)?.name !== "AbortError") problem.value = messageOf(error);
  }
}
