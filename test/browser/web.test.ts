/** The demonstration page in a real browser. */
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type SiteServer, serveSite } from "../../scripts/site-server.js";
import { ROOT } from "../package/packed.js";
import { launchChromium, NO_BROWSER } from "./chromium.js";

if (NO_BROWSER) console.warn(`The test of the demonstration page is skipped: ${NO_BROWSER}`);

const fixture = (name: string) => join(ROOT, "test", "fixtures", "dumps", name, "pt.elf.gz");

describe.skipIf(NO_BROWSER)(`the demonstration page${NO_BROWSER ? ` (skipped: ${NO_BROWSER})` : ""}`, () => {
  let server: SiteServer;
  let browser: Browser;
  let page: Page;
  const complaints: string[] = [];

  beforeAll(async () => {
    server = await serveSite();
    browser = await launchChromium();
    page = await browser.newPage();
    page.setDefaultTimeout(20_000);
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("console", (message) => complaints.push(message.text()));
    await page.goto(`${server.origin}/web/`);
    await page.waitForSelector("#steps li");
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    expect(complaints).toEqual([]);
  });

  const text = (selector: string) => page.locator(selector).textContent();

  it("walks the example's instruction pointer", async () => {
    expect(await text("#facts")).toContain("5-level paging");
    expect(await text("#outcome")).toBe("0x1fc05969: 4K page, user, read-only, executable");
    const entries = await page.locator("#steps h3").allTextContents();
    expect(entries.map((entry) => entry.split(/\s/)[0])).toEqual(["PML5E", "PML4E", "PDPTE", "PDE", "PTE"]);
    const checks = await page.locator("#checks li").allTextContents();
    expect(checks[0]).toBe("address: canonical CR4.LA57=1");
    expect(checks).toContain("PTE: present PTE.P=1");
  });

  it("says which bit decides where an address is not mapped", async () => {
    await page.fill("#address", "1000");
    await page.click("#walk button");
    await page.waitForSelector("#checks .bad");
    expect(await text("#checks .bad")).toMatch(/: not present \w+\.P=0$/);
  });

  it.each(["kdump/zstd.kdump", "kdump/lzo.flattened", "packed/i386-nopae.elf.xz"])("opens %s", async (name) => {
    await page.setInputFiles("#file", join(ROOT, "test", "fixtures", name));
    await page.getByText(/kdump-compressed|machine i386, 15 memory segments/).waitFor();
    await page.getByText("32-bit paging").waitFor();
    await page.fill("#address", "c1000123");
    await page.click("#walk button");
    await page.getByText("0x1000123: 4K page").waitFor();
  });

  it("walks another dump where the user asks for it", async () => {
    await page.setInputFiles("#file", fixture("i386-pae"));
    await page.getByText("PAE paging").waitFor();
    await page.fill("#address", "c1000123");
    await page.click("#walk button");
    await page.getByText("0x1000123: 2M page").waitFor();
    const fields = page.locator("#steps li").last().locator(".field:not(.zero) b");
    expect((await fields.allTextContents()).join(" ")).toBe("XD ADDRESS G PS D A RW P");
  });

  it("lists mappings, and walks the one that is chosen", async () => {
    await page.selectOption("#filter", "kernel");
    await page.getByText(/^\d+ ranges$/).waitFor();
    expect(await page.locator("#mappings td:nth-child(4)").first().textContent()).toMatch(/^-/);
    const first = page.locator("#mappings .link").first();
    const [address] = (await first.textContent())!.split(" ");
    await first.click();
    await page.waitForFunction(
      (value) => document.querySelector<HTMLInputElement>("#address")?.value === value,
      address,
    );
    expect(await page.locator("#outcome").getAttribute("class")).toBe("good");
  });

  it("shows the dump that was chosen last, whichever is there first", async () => {
    let release = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    await page.route("**/examples/*", async (route) => {
      await released;
      await route.continue();
    });
    await page.click("#example");
    await page.setInputFiles("#file", fixture("i386-nopae"));
    await page.getByText("32-bit paging").waitFor();
    await page.getByText(/^\d+ ranges$|^the first/).waitFor();
    const shown = await page.locator("main, body").first().innerText();
    const answered = page.waitForResponse("**/examples/*");
    release();
    await (await answered).finished();
    // Inflating and walking what has come takes some turns of the page.
    await page.waitForTimeout(500);
    expect(await page.locator("main, body").first().innerText()).toBe(shown);
    await page.unroute("**/examples/*");
    await page.setInputFiles("#file", fixture("i386-pae"));
    await page.getByText("PAE paging").waitFor();
  });

  it("says in a line why a file is no dump, and keeps what is open", async () => {
    await page.setInputFiles("#file", join(ROOT, "package.json"));
    await page.locator("#problem").waitFor();
    expect(await text("#problem")).toMatch(/^package\.json: .*expected an ELF core/);
    expect(await text("#facts")).toContain("PAE paging");
  });
});
