/** Browsers in which the inspector is tested: Debian's Chromium and Firefox, driven by puppeteer. */
import { existsSync } from "node:fs";
import axe from "axe-core";
import puppeteer, { type Browser, type BrowserContext, type ElementHandle, type Page } from "puppeteer-core";
import { afterAll, describe, it } from "vitest";
import { serveInspector } from "../../src/cli/inspect/server.js";

interface Kind {
  readonly name: "chrome" | "firefox";
  readonly place: string;
  readonly args: readonly string[];
}

const KINDS: readonly Kind[] = [
  {
    name: "chrome",
    place: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--no-proxy-server"],
  },
  { name: "firefox", place: process.env.FIREFOX ?? "/usr/bin/firefox-esr", args: [] },
];

/** The browsers that are there. INSPECTOR_BROWSERS names those that are wanted: `chrome`, `firefox`. */
export const BROWSERS: readonly Kind[] = KINDS.filter(
  ({ name, place }) => existsSync(place) && (process.env.INSPECTOR_BROWSERS ?? name).includes(name),
);
/** What is tried at each size: a desk and a phone. */
export const WIDTHS = [1280, 390] as const;

const missing = KINDS.filter(({ place }) => !existsSync(place));
export const NOTE =
  missing.length === 0 ? "" : ` (not in ${missing.map(({ name, place }) => `${name}: no ${place}`).join("; ")})`;
// A file without a test would be an error.
if (BROWSERS.length === 0) describe.skip(`the inspector${NOTE}`, () => it("is tested in browsers", () => {}));
if (NOTE !== "") console.warn(`The inspector is not tested everywhere${NOTE}`);

/** Browsers take seconds to start: each file's tests share one of a kind. */
const running = new Map<string, Promise<Browser>>();
afterAll(async () => {
  for (const browser of running.values()) await (await browser).close();
});

function launched({ name, place, args }: Kind): Promise<Browser> {
  const browser =
    running.get(name) ?? puppeteer.launch({ browser: name, executablePath: place, headless: true, args: [...args] });
  running.set(name, browser);
  return browser;
}

/** The inspector in a browser, with what a test does in it. */
export class InspectorPage {
  /** What the page or the browser complained about; a test ends with none. */
  readonly complaints: string[] = [];
  /** Requests to other places than the server. */
  readonly foreign: string[] = [];

  protected constructor(
    readonly page: Page,
    readonly url: string,
    readonly close: () => Promise<void>,
  ) {
    page.on("console", (message) => {
      if (["error", "warn"].includes(message.type())) this.complaints.push(message.text());
    });
    page.on("pageerror", (error) => this.complaints.push(String(error)));
    page.on("request", (request) => {
      if (!request.url().startsWith(url) && !/^(data|blob):/.test(request.url())) this.foreign.push(request.url());
    });
  }

  /** Serves the site with files to open, and opens it at a fragment, in a profile of its own. */
  static async open(kind: Kind, width: number, fragment = "", files: readonly string[] = []) {
    const server = await serveInspector({ port: 0, files });
    let context: BrowserContext | undefined;
    try {
      context = await (await launched(kind)).createBrowserContext();
      const page = await context.newPage();
      await page.setViewport({ width, height: 900 });
      page.setDefaultTimeout(25_000);
      const opened = new InspectorPage(page, server.url, async () => {
        await context!.close();
        await server.close();
      });
      await page.goto(`${server.url}${fragment}`);
      await page.waitForSelector("main");
      return opened;
    } catch (error) {
      await context?.close();
      await server.close();
      throw error;
    }
  }

  /** Goes to another view or state, as a link does. */
  async go(fragment: string): Promise<void> {
    await this.page.evaluate((hash) => {
      location.hash = hash;
    }, fragment);
  }

  /** The element with this role and name, when it is there. */
  async byRole(role: string, name: string): Promise<ElementHandle<Element>> {
    return (await this.page.waitForSelector(`::-p-aria([role="${role}"][name="${name}"])`))!;
  }

  /** Text of what is in sight, white space made single blanks. */
  async text(selector = "main"): Promise<string> {
    return this.page.$eval(selector, (element) => (element as HTMLElement).innerText.replace(/\s+/g, " ").trim());
  }

  /** Waits until the text is there. */
  async see(text: string | RegExp, selector = "main"): Promise<void> {
    const [source, flags] =
      typeof text === "string" ? [text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), ""] : [text.source, text.flags];
    await this.page
      .waitForFunction(
        (where: string, pattern: string, how: string) =>
          new RegExp(pattern, how).test(
            (document.querySelector(where) as HTMLElement | null)?.innerText.replace(/\s+/g, " ") ?? "",
          ),
        {},
        selector,
        source,
        flags,
      )
      .catch(async (error) => {
        throw new Error(`${text} is not seen (${error.message}) in: ${(await this.text(selector)).slice(0, 2000)}`);
      });
  }

  /** Puts text into a field in place of what is there, by the keyboard. */
  async fill(label: string, text: string): Promise<void> {
    const field = await this.byRole("textbox", label);
    await field.focus();
    await field.evaluate((element) => (element as HTMLInputElement).select());
    await this.page.keyboard.type(text);
    await this.page.keyboard.press("Enter");
  }

  /** What axe-core finds that is serious or worse: rule and places. */
  async accessibilityFaults(): Promise<string[]> {
    await this.page.evaluate(axe.source);
    const { violations } = (await this.page.evaluate("axe.run()")) as axe.AxeResults;
    return violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`);
  }

  /** How far the page reaches beyond the window to the right: columns that a phone does not show. */
  async overflow(): Promise<number> {
    return this.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  }
}
