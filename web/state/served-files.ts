/** The files that the page was opened for: `x86-paging inspect FILE` writes them into its head. */
import type { ServedName } from "../engine/served-file.js";

/** Their addresses are whole, since workers have another base. */
export function servedFiles(): readonly ServedName[] {
  const content = document.querySelector<HTMLMetaElement>('meta[name="served-files"]')?.content;
  if (content === undefined) return [];
  const files = JSON.parse(content) as readonly ServedName[];
  return files.map((file) => ({ ...file, url: new URL(file.url, document.baseURI).href }));
}
