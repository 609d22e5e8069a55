/** Listings of a dump whose bytes come later. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { loadSync } from "../../src/core/index.js";
import { listAsync, openDumpAsync, registersFromDump } from "../../src/dump/browser.js";

const bytes = gunzipSync(readFileSync(new URL("../fixtures/dumps/amd64-4l/pt.elf.gz", import.meta.url)));

async function open() {
  const { dump, fetching } = await openDumpAsync(new Blob([bytes as BlobPart]));
  const core = loadSync();
  const memory = core.createMemory({ source: dump.pageSource });
  const space = await fetching(() => core.createAddressSpace(memory, { ...registersFromDump(dump), lenient: true }));
  let operations = 0;
  const counted = <T>(operation: () => T) =>
    fetching(() => {
      operations++;
      return operation();
    });
  return { dump, core, space, fetching: counted, operations: () => operations };
}

describe("listAsync", () => {
  it("gives what the listing gives, and begins nothing again", async () => {
    const { space, fetching, operations } = await open();
    const listed = [];
    for await (const run of listAsync(space.mappings(), fetching)) listed.push(run);
    // Everything is there by now.
    const expected = [...space.mappings()];
    expect(listed).toEqual(expected);
    // One for each 256 elements, and one for each piece of the file that was missing.
    const pieces = Math.ceil(bytes.length / 2 ** 16);
    expect(operations()).toBeLessThanOrEqual(Math.ceil((expected.length + 1) / 256) + pieces);
  });

  it("ends the listing when its reader ends early", async () => {
    const { space, core, fetching } = await open();
    for await (const _ of listAsync(space.leaves(), fetching)) break;
    const { linear } = core.internals();
    const free = linear.freeBytes;
    for await (const _ of listAsync(space.leaves(), fetching)) break;
    expect(linear.freeBytes).toBe(free);
  });

  it("passes on what the source throws for good", async () => {
    const listing = {
      next(): never {
        throw new RangeError("gone");
      },
    };
    const all = listAsync(listing, async (operation) => operation());
    await expect(all.next()).rejects.toThrow("gone");
  });
});
