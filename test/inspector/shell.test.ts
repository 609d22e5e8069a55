/** The inspector as a site: its views are reached by keyboard, nothing is asked of others, nothing is hard to use. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { packRecording } from "../../src/recording/index.js";
import { ROOT } from "../package/packed.js";
import { BROWSERS, InspectorPage, NOTE, WIDTHS } from "./browsers.js";

const TITLES = ["Dump", "Walk", "Decode", "MMU", "Playground"];

describe.each(BROWSERS)(`the inspector in $name${NOTE}`, (browser) => {
  let inspector: InspectorPage;
  beforeAll(async () => {
    inspector = await InspectorPage.open(browser, WIDTHS[0]);
  });
  afterAll(() => inspector?.close());

  it("has every view behind a link, which the keyboard reaches", async () => {
    for (const title of TITLES) {
      const link = await inspector.byRole("link", title);
      await link.focus();
      await inspector.page.keyboard.press("Enter");
      await inspector.page.waitForSelector(`main[aria-label="${title}"]`);
      expect(await inspector.page.title()).toBe(`${title} – x86-paging inspector`);
    }
  });

  it.each(WIDTHS)("is accessible and fits at %i pixels", async (width) => {
    await inspector.page.setViewport({ width, height: 900 });
    for (const title of TITLES) {
      await (await inspector.byRole("link", title)).click();
      await inspector.page.waitForSelector(`main[aria-label="${title}"]`);
      expect(await inspector.accessibilityFaults(), title).toEqual([]);
      expect(await inspector.overflow(), title).toBeLessThanOrEqual(0);
    }
  });

  it("asks nobody else, under its policy, and complains of nothing", () => {
    expect(inspector.foreign).toEqual([]);
    expect(inspector.complaints).toEqual([]);
  });
});

describe.each(BROWSERS)(`a file that is named, in $name${NOTE}`, (browser) => {
  const folder = mkdtempSync(join(tmpdir(), "inspector-"));
  const recorded = join(ROOT, "test", "fixtures", "recordings", "h10_lm4_smm", "npt0");
  afterAll(() => rmSync(folder, { recursive: true }));

  it.each([
    ["a packed recording", "run.recording", "MMU", "h10_lm4_smm, Linux 6.1"],
    ["a trace", "trace.txt", "MMU", "What the trace tells"],
    ["a compressed trace", "trace.txt.gz", "MMU", "What the trace tells"],
    ["a dump", "pt.elf.gz", "Dump", "PAE paging"],
    ["what is none of these", "notes.txt", "Dump", "expected an ELF core"],
  ])("is opened in its view: %s", async (_, name, view, text) => {
    const trace = readFileSync(join(recorded, "trace.txt.gz"));
    const contents: Record<string, () => Uint8Array> = {
      "run.recording": () => packRecording(recorded),
      "trace.txt": () => gunzipSync(trace),
      "trace.txt.gz": () => trace,
      "pt.elf.gz": () => readFileSync(join(ROOT, "test", "fixtures", "dumps", "i386-pae", "pt.elf.gz")),
      "notes.txt": () => Buffer.from("some notes\n"),
    };
    const path = join(folder, name);
    writeFileSync(path, contents[name]!());
    const inspector = await InspectorPage.open(browser, WIDTHS[0], "", [path]);
    try {
      await inspector.page.waitForSelector(`main[aria-label="${view}"]`);
      await inspector.see(text, "body");
    } finally {
      await inspector.close();
    }
    expect(inspector.complaints).toEqual([]);
    expect(inspector.foreign).toEqual([]);
  });
});
