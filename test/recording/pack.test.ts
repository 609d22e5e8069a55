/** Recordings in one file: the same as their folders, from a path and from a Blob; those that are damaged. */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { isPacked, packFiles, unpackFiles } from "../../src/recording/format/pack.js";
import {
  findRecordings,
  openRecording,
  packRecording,
  type Recording,
  RecordingError,
  readRecording,
} from "../../src/recording/index.js";
import { temporaryFolder } from "../temporary.js";
import { RECORDINGS } from "./fixtures.js";

const FOLDER = join(RECORDINGS, "g3_nested_32", "npt1-tdp0");
const packed = packRecording(FOLDER);
const { folder, file } = temporaryFolder();

/** What is in a recording but its path; of memory the pages' checksums. */
function contentOf({ path, memoryBefore, memoryAfter, ...content }: Recording) {
  const sums = [memoryBefore, memoryAfter].map(({ pages }) =>
    [...pages].map(([gpa, bytes]) => [gpa, createHash("sha1").update(bytes).digest("hex")]),
  );
  return { ...content, sums };
}

describe("a packed recording", () => {
  it("is the recording that it was made of, read from a file or from a Blob", async () => {
    const wanted = contentOf(readRecording(FOLDER));
    const path = file("a.recording", packed);
    expect(contentOf(readRecording(path))).toEqual(wanted);
    expect(readRecording(path).path).toBe(path);
    expect(contentOf(await openRecording(new Blob([packed])))).toEqual(wanted);
    expect((await openRecording(new File([packed], "b.recording"))).path).toBe("b.recording");
  });

  it("has every file of the folder as it is", () => {
    const files = unpackFiles("p", packed);
    expect([...files.keys()]).toContain("trace.txt.gz");
    for (const [name, bytes] of files) expect(Buffer.from(bytes).equals(readFileSync(join(FOLDER, name)))).toBe(true);
    expect(isPacked(packed)).toBe(true);
  });

  it("is found by itself, and below a folder by its suffix", () => {
    const below = folder();
    const path = join(below, "x.recording");
    writeFileSync(path, packed);
    writeFileSync(join(below, "other.recording"), "nothing");
    mkdirSync(join(below, "deep"));
    writeFileSync(join(below, "deep", "y.recording"), packed);
    expect(findRecordings(path)).toEqual([path]);
    expect(findRecordings(below)).toEqual([join(below, "deep", "y.recording"), path]);
    expect(() => packRecording(path)).toThrow("found one that is packed");
  });

  it("is refused where it is damaged, by a RecordingError that names the file", async () => {
    const header = packed.indexOf(10) + 1;
    const whole = unpackFiles("p", packed);
    const without = new Map([...whole].filter(([name]) => name !== "guestmem_after.bin.gz"));
    const broken = new Map(whole).set("scenario.json.gz", whole.get("scenario.json.gz")!.subarray(0, 500));
    const named = (index: string) => new TextEncoder().encode(`{"format":"x86-paging recording",${index}}\n`);
    for (const [bytes, message] of [
      [packed.subarray(0, packed.length - 3), "but the file ends after"],
      [Uint8Array.of(...packed, 1), "found 1 more bytes"],
      [packed.subarray(0, header - 2), "expected a folder, or a packed recording"],
      [packFiles(without), "guestmem_after.bin.gz: is not among the packed files"],
      [packFiles(broken), "scenario.json.gz: expected complete gzip data"],
      [named('"version":2,"files":[]'), "version: expected 1, found 2"],
      [named('"version":1,"files":3'), "files: expected a list"],
      [named('"version":1,"files":[{"name":"a","size":-1}]'), "files[0]: expected a name and a size"],
      [named('"version":1,"files":[}'), "line 1: not JSON"],
    ] as const) {
      const path = file("damaged.recording", bytes);
      expect(() => readRecording(path)).toThrow(message);
      expect(() => readRecording(path)).toThrow(RecordingError);
      await expect(openRecording(new Blob([new Uint8Array(bytes)]))).rejects.toThrow(message);
    }
  });
});
