/** The entries that browsers load, bundled: no module of Node's, no second copy of the Wasm. */
import { describe, expect, it } from "vitest";
import { bundle, bundleEntry } from "./bundle.js";
import { ENTRIES } from "./packed.js";

/** Entries for Node alone: they read files. */
const NODE_ENTRIES = ["x86-paging/dump/node", "x86-paging/recording"];
/** The only entry that needs another package, fast-check. */
const FUZZ_ENTRY = "x86-paging/fuzz";
const names = ENTRIES.map(({ name }) => name);
const browserEntries = names.filter((name) => !NODE_ENTRIES.includes(name) && name !== FUZZ_ENTRY);

describe("bundled", () => {
  it.each(browserEntries)("%s needs neither Node nor another package, and no warning", async (name) => {
    const { files, externals, warnings } = await bundleEntry(name);
    expect(warnings).toEqual([]);
    expect(externals).toEqual([]);
    expect(files.filter((file) => !file.startsWith("dist/"))).toEqual([]);
  });

  it(`${FUZZ_ENTRY} needs fast-check and what that needs, not Node, the core or the reference`, async () => {
    const { files, externals, warnings } = await bundleEntry(FUZZ_ENTRY);
    expect(warnings).toEqual([]);
    expect(externals).toEqual([]);
    const foreign = files.filter((file) => !file.startsWith("dist/"));
    expect(foreign.filter((file) => !/node_modules\/(fast-check|pure-rand)\//.test(file))).toEqual([]);
    expect(files.filter((file) => /^dist\/(core|reference)\//.test(file))).toEqual([]);
  });

  it.each(NODE_ENTRIES)("%s needs nothing but Node, recordings also diff", async (entry) => {
    const { files, externals, warnings } = await bundleEntry(entry, "node");
    expect(warnings).toEqual([]);
    expect(externals.filter((name) => !name.startsWith("node:"))).toEqual([]);
    expect(externals).toContain("node:fs");
    const foreign = files.filter((file) => !file.startsWith("dist/"));
    const allowed = entry === "x86-paging/recording" ? /node_modules\/diff\// : /^$/;
    expect(foreign.filter((file) => !allowed.test(file))).toEqual([]);
  });

  it("x86-paging/recording needs neither Node nor another package in browsers", async () => {
    const script = `import { openRecording, replay, engineTarget } from "x86-paging/recording"; console.log(openRecording, replay, engineTarget);`;
    const { files, externals, warnings } = await bundle(script);
    expect(warnings).toEqual([]);
    expect(externals).toEqual([]);
    expect(files.filter((file) => !file.startsWith("dist/"))).toEqual([]);
  });

  it.each(["reference", "role", "spte", "dump", "conform", "decode", "maps", "abi"])(
    "x86-paging/%s is without the core",
    async (name) => {
      const { files } = await bundleEntry(`x86-paging/${name}`);
      expect(files.filter((file) => file.startsWith("dist/core/"))).toEqual([]);
    },
  );

  it("has nothing of saved states where they are not used", async () => {
    const { files } = await bundleEntry("x86-paging");
    expect(files.filter((file) => file.includes("state"))).toEqual([]);
    const { code } = await bundle(`import { saveSpace } from "x86-paging/state"; console.log(saveSpace);`);
    expect(Buffer.from(code).includes("x86-pgst")).toBe(true);
  });

  it("leaves out what is not used", async () => {
    const { code } = await bundle(`import { Access } from "x86-paging"; console.log(Access.Write);`);
    expect(code.length).toBeLessThan(1000);
  });
});
