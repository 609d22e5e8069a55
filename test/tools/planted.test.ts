import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { ALL_PLANTED } from "../../scripts/mutation/all-planted.js";
import { ROOT } from "../package/packed.js";

it("every planted mistake still has its place in the sources", () => {
  const lost = ALL_PLANTED.filter(({ path, original, text }) => {
    const places = readFileSync(join(ROOT, path), "utf8").split(original).length - 1;
    return places !== 1 || original === text;
  });
  expect(lost.map(({ path, rule }) => `${path}: ${rule}`)).toEqual([]);
  expect(ALL_PLANTED.length).toBeGreaterThan(300);
});
