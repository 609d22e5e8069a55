/** The package in a real browser: loading the core, opening dumps, with nothing of Node's. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type SiteServer, serveSite } from "../../scripts/site-server.js";
import { openDumpFile, registersFromDump } from "../../src/dump/node.js";
import { Access, loadSync } from "../../src/index.js";
import { bundle } from "../package/bundle.js";
import { entryFile, ROOT } from "../package/packed.js";
import { launchChromium, NO_BROWSER } from "./chromium.js";
import type { Site } from "./site/page.js";
import type { Task } from "./site/run.js";
import { type Survey, survey } from "./site/survey.js";
import { SITE, siteScript } from "./site-scripts.js";

if (NO_BROWSER) console.warn(`The browser test is skipped: ${NO_BROWSER}`);

/** Supervisor reads that are exempt from SMAP, so that whatever is mapped is found. */
const ACCESS = Access.Ac;
const FIXTURES = ["amd64-la57", "i386-pae"];
const fixture = (name: string, file: string) => join("test", "fixtures", "dumps", name, file);

/** The addresses whose translation QEMU's monitor recorded. */
const addressesOf = (name: string): bigint[] =>
  readFileSync(join(ROOT, fixture(name, "gva2gpa.txt")), "utf8")
    .trim()
    .split("\n")
    .map((line) => BigInt(`0x${line.split(" ")[0]}`));

async function surveyInNode(name: string): Promise<Survey> {
  const dump = await openDumpFile(join(ROOT, fixture(name, "pt.elf.gz")));
  const opened = { dump, fetching: async <T>(operation: () => T) => operation() };
  return survey(loadSync(), opened, registersFromDump(dump), addressesOf(name), ACCESS);
}

describe.skipIf(NO_BROWSER)(`in Chromium${NO_BROWSER ? ` (skipped: ${NO_BROWSER})` : ""}`, () => {
  const bundles = new Map<string, Uint8Array>();
  let server: SiteServer;
  let browser: Browser;
  let page: Page;
  /** What the browser complained about. */
  const complaints: string[] = [];

  beforeAll(async () => {
    server = await serveSite({ extra: async (path) => bundles.get(path) ?? siteScript(path) });
    browser = await launchChromium();
    page = await browser.newPage();
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("console", (message) => complaints.push(message.text()));
    page.on("requestfailed", (request) => complaints.push(request.url()));
    await page.goto(`${server.origin}${SITE}page.html`);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  /** Runs the task in the page or in a worker. */
  async function inBrowser(where: "run" | "runInWorker", name: string, changes: Partial<Task> = {}): Promise<Survey> {
    const task: Task = {
      core: `/${entryFile("x86-paging")}`,
      dump: `/${entryFile("x86-paging/dump")}`,
      file: `/${fixture(name, "pt.elf.gz")}`,
      addresses: addressesOf(name),
      access: ACCESS,
      ...changes,
    };
    const result = await page.evaluate(([how, task]) => (globalThis as unknown as { site: Site }).site[how](task), [
      where,
      task,
    ] as const);
    expect(complaints).toEqual([]);
    expect(server.missing).toEqual([]);
    return result;
  }

  it.each(FIXTURES)("a page walks %s as Node does", async (name) => {
    const expected = await surveyInNode(name);
    expect(expected.walks.length).toBeGreaterThan(50);
    expect(expected.walks.filter((walk) => !walk.includes("status")).length).toBeGreaterThan(50);
    expect(expected.mappings).toBeGreaterThan(50);
    expect(await inBrowser("run", name)).toEqual(expected);
  });

  it.each(FIXTURES)("a module worker walks %s as Node does", async (name) => {
    expect(await inBrowser("runInWorker", name)).toEqual(await surveyInNode(name));
  });

  it("a dump that is not compressed is read piece by piece", async () => {
    const [name] = FIXTURES as [string];
    expect(await inBrowser("run", name, { inflate: true })).toEqual(await surveyInNode(name));
  });

  it("the core can be loaded from the URL of core.wasm", async () => {
    const [name] = FIXTURES as [string];
    const asked: string[] = [];
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
    expect(await inBrowser("run", name, { wasm: "/dist/core.wasm" })).toEqual(await surveyInNode(name));
    expect(asked).toContain("/dist/core.wasm");
  });

  it("a policy without Wasm is named, with the reference as a way on; with wasm-unsafe-eval it runs", async () => {
    const outcome = async (policy: string) => {
      const html = `<!doctype html><meta http-equiv="Content-Security-Policy" content="script-src 'self' ${policy}">
        <link rel="icon" href="data:,"><script type="module" src="${SITE}page.js"></script>`;
      const file = `/policy${policy.length}.html`;
      bundles.set(file, Buffer.from(html));
      const own = await browser.newPage();
      await own.goto(`${server.origin}${file}`);
      const tried = await own.evaluate(
        (url) => (globalThis as unknown as { site: Site }).site.tryToLoad(url),
        `/${entryFile("x86-paging")}`,
      );
      await own.close();
      return tried;
    };
    expect(await outcome("'wasm-unsafe-eval'")).toEqual([0, 0]);
    const refused = expect.stringMatching(
      /^LoadError: this platform does not compile WebAssembly: .*x86-paging\/reference/,
    );
    expect(await outcome("")).toEqual([refused, refused]);
  });

  it("the example of a dump reader shows a walk", async () => {
    const [name] = FIXTURES as [string];
    const own = await browser.newPage();
    await own.goto(`${server.origin}/examples/dump-reader.html`);
    await own.setInputFiles("#file", join(ROOT, fixture(name, "pt.elf.gz")));
    const lines = readFileSync(join(ROOT, fixture(name, "gva2gpa.txt")), "utf8")
      .trim()
      .split("\n");
    const [gva, , gpa] = lines.find((line) => !line.includes("Unmapped"))!.split(" ") as [string, string, string];
    for (const [address, expected] of [
      [gva, `physical address ${gpa.replace("0x", "").padStart(16, "0")}`],
      ["0", "error code 0"],
    ] as const) {
      await own.fill("#address", address);
      await own.press("#address", "Enter");
      await own.waitForFunction((words) => document.querySelector("#out")?.textContent?.endsWith(words), expected);
      expect(await own.textContent("#out")).toMatch(/^5level, [0-9a-f]{16}\nlevel 5 at /);
    }
    await own.setInputFiles("#file", join(ROOT, "package.json"));
    await own.waitForFunction(() => /Error: /.test(document.querySelector("#out")?.textContent ?? ""));
    await own.close();
  });

  it("the reference gives the same answers", async () => {
    const [name] = FIXTURES as [string];
    const reference = `/${entryFile("x86-paging/reference")}`;
    expect(await inBrowser("run", name, { reference })).toEqual(await surveyInNode(name));
  });

  it("a bundle gives the same answers", async () => {
    const [name] = FIXTURES as [string];
    const entries = ["x86-paging", "x86-paging/dump"].map((entry) => `export * from "./${entryFile(entry)}";`);
    const { code, warnings } = await bundle(entries.join("\n"));
    expect(warnings).toEqual([]);
    bundles.set("/bundle.js", code);
    expect(await inBrowser("run", name, { core: "/bundle.js", dump: "/bundle.js" })).toEqual(await surveyInNode(name));
  });

  it("every other entry loads", async () => {
    const others = ["abi", "conform", "maps", "mmu", "role", "spte"].map(
      (name) => `/${entryFile(`x86-paging/${name}`)}`,
    );
    const counts = await page.evaluate(
      (urls) => (globalThis as unknown as { site: Site }).site.countExports(urls),
      others,
    );
    expect(counts.every((count) => count > 0)).toBe(true);
    expect(complaints).toEqual([]);
  });
});
