/** `x86-paging/trace` and `x86-paging/recording` in a real browser: Blobs give what files give in Node. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type SiteServer, serveSite } from "../../scripts/site-server.js";
import { engineTarget, packRecording, ReplaySummary, readRecording, replay } from "../../src/recording/index.js";
import { analyseTrace } from "../../src/trace/index.js";
import { entryFile, ROOT } from "../package/packed.js";
import { datVersion7 } from "../trace/writers/dat-writer.js";
import { recordedEvents } from "../trace/writers/events.js";
import { LAYOUTS } from "../trace/writers/formats.js";
import { launchChromium, NO_BROWSER } from "./chromium.js";
import { SITE, siteScript } from "./site-scripts.js";

const RECORDING = join("test", "fixtures", "recordings", "g3_nested_32", "npt1-tdp0");

describe.skipIf(NO_BROWSER)(`traces in Chromium${NO_BROWSER ? ` (skipped: ${NO_BROWSER})` : ""}`, () => {
  const files = new Map<string, Uint8Array>();
  let server: SiteServer;
  let browser: Browser;
  let page: Page;

  beforeAll(async () => {
    const events = recordedEvents(join(ROOT, RECORDING)).filter(({ name }) => LAYOUTS.has(name));
    files.set("/trace.txt.gz", readFileSync(join(ROOT, RECORDING, "trace.txt.gz")));
    files.set("/trace.dat", datVersion7(events, true));
    files.set("/a.recording", packRecording(join(ROOT, RECORDING)));
    server = await serveSite({ extra: async (path) => files.get(path) ?? siteScript(path) });
    browser = await launchChromium();
    page = await browser.newPage();
    await page.goto(`${server.origin}${SITE}page.html`);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  it.each(["/trace.txt.gz", "/trace.dat"])("%s says the same as in Node", async (path) => {
    const options = { name: "t", gfn: 0x104 };
    // A text: what it imports is the browser's own affair.
    const found = await page.evaluate(`(async () => {
      const { analyseTrace } = await import("/${entryFile("x86-paging/trace")}");
      const blob = await (await fetch(${JSON.stringify(path)})).blob();
      const { report, pages } = await analyseTrace(blob, ${JSON.stringify(options)});
      return JSON.stringify({ report, pages: pages() });
    })()`);
    const { report, pages } = await analyseTrace(new Blob([new Uint8Array(files.get(path)!)]), options);
    expect(JSON.parse(found as string)).toEqual(JSON.parse(JSON.stringify({ report, pages: pages() })));
    expect(report.events).toBe(969);
  });

  it("a packed recording is replayed", async () => {
    const found = await page.evaluate(`(async () => {
      const { engineTarget, openRecording, replay, ReplaySummary } = await import("/dist/recording/browser.js");
      const blob = await (await fetch("/a.recording")).blob();
      const summary = new ReplaySummary();
      summary.add(replay(await openRecording(blob), engineTarget));
      return JSON.stringify(summary.toJson());
    })()`);
    const summary = new ReplaySummary();
    summary.add(replay(readRecording(join(ROOT, RECORDING)), engineTarget));
    expect(summary.passed).toBe(1);
    expect(JSON.parse(found as string)).toEqual(JSON.parse(JSON.stringify(summary.toJson())));
  });
});
