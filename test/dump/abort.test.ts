/** Long calls end when their signal says so. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { runVectors } from "../../src/conform/index.js";
import { listAsync, openDumpAsync } from "../../src/dump/browser.js";
import { openDumpFile } from "../../src/dump/node.js";
import { createReference } from "../../src/reference/index.js";

const FILE = fileURLToPath(new URL("../fixtures/dumps/amd64-la57/pt.elf.gz", import.meta.url));
const reason = new Error("enough");
const aborted = AbortSignal.abort(reason);

it("opening a dump rejects with the reason, before it begins and in the middle", async () => {
  const bytes = readFileSync(FILE);
  await expect(openDumpFile(FILE, { signal: aborted })).rejects.toBe(reason);
  await expect(openDumpAsync(bytes, { signal: aborted })).rejects.toBe(reason);

  const middle = new AbortController();
  const onInflate = (done: number) => {
    if (done > 0) middle.abort(reason);
  };
  await expect(openDumpFile(FILE, { signal: middle.signal, onInflate })).rejects.toBe(reason);

  // Of a Blob that is read piece by piece.
  const late = new AbortController();
  const blob = new Blob([new Uint8Array(2 ** 20)]);
  const slice = blob.slice.bind(blob);
  blob.slice = (...range) => {
    late.abort(reason);
    return slice(...range);
  };
  await expect(openDumpAsync(blob, { signal: late.signal })).rejects.toBe(reason);
});

it("a signal that is not aborted changes nothing", async () => {
  const { signal } = new AbortController();
  const dump = await openDumpFile(FILE, { signal });
  expect(dump.format).toBe("elf");
  dump.close();
});

it("a listing ends between its chunks and closes what it lists", async () => {
  const controller = new AbortController();
  let closed = false;
  function* numbers() {
    try {
      for (let number = 0; ; number++) yield number;
    } finally {
      closed = true;
    }
  }
  const found: number[] = [];
  const listing = async () => {
    for await (const number of listAsync(numbers(), async (run) => run(), { signal: controller.signal })) {
      found.push(number);
      if (number === 300) controller.abort(reason);
    }
  };
  await expect(listing()).rejects.toBe(reason);
  expect([found.length, closed]).toEqual([512, true]);
});

it("a run of vectors keeps what it counted", async () => {
  const controller = new AbortController();
  const into = { passed: 0, failed: 0, exceptions: new Map<string, number>(), failures: [] };
  function* none() {
    controller.abort(reason);
    yield {} as never;
  }
  await expect(runVectors(createReference(), none(), { into, signal: controller.signal })).rejects.toBe(reason);
  expect(into.passed + into.failed).toBe(0);
});
