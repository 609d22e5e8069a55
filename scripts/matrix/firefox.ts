/** Firefox, driven by WebDriver BiDi: a page without a bundler, with an import map. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { serveSite } from "../site-server.js";
import type { Project, Row } from "./project.js";
import { DUMP, USE } from "./use.js";

const PLACE = process.env.FIREFOX ?? "/usr/bin/firefox-esr";

/** As much of puppeteer as is used. */
interface Puppeteer {
  launch(options: Readonly<Record<string, unknown>>): Promise<{
    newPage(): Promise<{
      goto(url: string): Promise<unknown>;
      waitForFunction(text: string, options: { readonly timeout: number }): Promise<unknown>;
      title(): Promise<string>;
    }>;
    close(): Promise<void>;
  }>;
}

/** Every entry by the file that the package exports for it. */
function importMap(project: Project): string {
  const { exports } = JSON.parse(project.read("node_modules/x86-paging/package.json").toString()) as {
    exports: Readonly<Record<string, string | { readonly default: string }>>;
  };
  const imports = Object.entries(exports).flatMap(([name, target]) =>
    typeof target === "string"
      ? []
      : [[join("x86-paging", name), `/node_modules/x86-paging/${target.default.slice(2)}`]],
  );
  return JSON.stringify({ imports: Object.fromEntries(imports) });
}

const page = (map: string) => `<!doctype html><html lang="en"><head><meta charset="utf-8"><title></title>
<link rel="icon" href="data:,"><script type="importmap">${map}</script></head><body><script type="module">
import { use } from "./use.js";
const bytes = new Uint8Array(await (await fetch("/dump.gz")).arrayBuffer());
document.title = await use(bytes).catch((error) => "failed: " + error);
</script></body></html>\n`;

export const FIREFOX: Row = {
  group: "runtime",
  name: "Firefox",
  packages: { "puppeteer-core": "24" },
  async run(project) {
    if (!existsSync(PLACE))
      throw new Error(`there is no browser at ${PLACE}; install firefox-esr, or name one in FIREFOX`);
    project.take(DUMP, "dump.gz");
    project.write("use.js", USE);
    project.write("index.html", page(importMap(project)));
    const module = join(project.path, "node_modules", "puppeteer-core", "lib", "esm", "puppeteer", "puppeteer-core.js");
    const { default: puppeteer } = (await import(pathToFileURL(module).href)) as { default: Puppeteer };
    const server = await serveSite({ extra: (path) => readFile(join(project.path, path)) });
    const browser = await puppeteer.launch({ browser: "firefox", executablePath: PLACE, headless: true });
    try {
      const tab = await browser.newPage();
      await tab.goto(`${server.origin}/index.html`);
      await tab.waitForFunction("document.title !== ''", { timeout: 60_000 });
      return await tab.title();
    } finally {
      await browser.close();
      await server.close();
    }
  },
};
