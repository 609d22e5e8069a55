/** The system's reason without its path and call, e.g. "no such file or directory". */
export function systemReason(error: unknown): string {
  const message = (error as Error).message;
  return /^E[A-Z0-9]+: ([^,]+)/.exec(message)?.[1] ?? message;
}
