/** Gives the user a file that the page made. */

export function download(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The browser takes it over after this turn.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
