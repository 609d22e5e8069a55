/** A temporary folder for the tests of a file; it goes with all that is in it when they are done. */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

export interface TemporaryFolder {
  readonly directory: string;
  /** Writes a file there; returns its path. */
  readonly file: (name: string, content: Uint8Array | string) => string;
  /** Makes an empty folder there; returns its path. */
  readonly folder: () => string;
  /** Copies a folder to a new one there; returns its path. */
  readonly copyOf: (folder: string) => string;
}

export function temporaryFolder(): TemporaryFolder {
  const directory = mkdtempSync(join(tmpdir(), "x86-paging-"));
  const folder = () => mkdtempSync(join(directory, "folder-"));
  afterAll(() => rmSync(directory, { recursive: true }));
  return {
    directory,
    file: (name, content) => {
      const path = join(directory, name);
      writeFileSync(path, content);
      return path;
    },
    folder,
    copyOf: (original) => {
      const copy = folder();
      cpSync(original, copy, { recursive: true });
      return copy;
    },
  };
}
