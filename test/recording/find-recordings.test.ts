/** Finding recordings in folders, through links, in order. */
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { findRecordings } from "../../src/recording/format/find-recordings.js";
import { temporaryFolder } from "../temporary.js";

const { folder, file } = temporaryFolder();

function recordingIn(...path: string[]): string {
  const made = join(...path);
  mkdirSync(made, { recursive: true });
  writeFileSync(join(made, "scenario.json.gz"), "");
  return made;
}

it("finds a recording itself, and all below a folder by name", () => {
  const root = folder();
  const found = [
    recordingIn(root, "b"),
    recordingIn(root, "a", "z"),
    recordingIn(root, "a", "c"),
    recordingIn(root, "a.d"),
  ];
  expect(findRecordings(root)).toEqual([found[3], found[2], found[1], found[0]]);
  expect(findRecordings(found[0]!)).toEqual([found[0]]);
});

it("follows links to folders, but not in circles, and passes over links that lead nowhere", () => {
  const root = folder();
  const elsewhere = recordingIn(folder(), "x");
  recordingIn(root, "a");
  symlinkSync(elsewhere, join(root, "b"));
  symlinkSync(root, join(root, "c"));
  symlinkSync(join(root, "gone"), join(root, "d"));
  expect(findRecordings(root)).toEqual([join(root, "a"), join(root, "b")]);
});

it("refuses what is no folder, and a folder without recordings", () => {
  expect(() => findRecordings(join(folder(), "none"))).toThrow(/no such folder/);
  expect(() => findRecordings(file("plain", ""))).toThrow(/expected a folder with a recording/);
  expect(() => findRecordings(folder())).toThrow(/expected scenario\.json\.gz here or in a folder below/);
});
