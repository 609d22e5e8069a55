/** The Decode view in browsers: a word is pasted and read, fields are flipped and the word is seen, the URL leads back. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BROWSERS, InspectorPage, NOTE, WIDTHS } from "./browsers.js";

const CASES = BROWSERS.flatMap((browser) => WIDTHS.map((width) => ({ ...browser, width })));

describe.each(CASES)(`the Decode view in $name at $width pixels${NOTE}`, ({ width, ...browser }) => {
  let inspector: InspectorPage;
  beforeAll(async () => {
    inspector = await InspectorPage.open(browser, width, "#/decode");
  });
  afterAll(async () => {
    await inspector?.close();
    expect(inspector?.complaints).toEqual([]);
  });

  const wordField = async () =>
    (await inspector.byRole("textbox", "Word")).evaluate((input) => (input as HTMLInputElement).value);

  it("reads what is pasted, by keyboard", async () => {
    await inspector.fill("Word", "0x80000000002011e3");
    await inspector.see("PTE: 4K page at 0x201000");
    await (await inspector.byRole("combobox", "Level")).select("2");
    await inspector.see("PDE: 2M page at 0x200000");
    expect(await inspector.page.evaluate(() => location.hash)).toBe("#/decode?kind=pte&word=80000000002011e3&level=2");
  });

  it("flips a bit and sees the word, by pointer and by key", async () => {
    const button = await inspector.byRole("button", "1 RW 1");
    await button.click();
    await inspector.page.waitForFunction(() => location.hash.includes("2011e1"));
    expect(await wordField()).toBe("80000000002011e1");
    await inspector.see("RW (bit 1) = 0: writable");
    await (await inspector.byRole("button", "1 RW 0")).press("Enter");
    await inspector.page.waitForFunction(() => location.hash.includes("2011e3"));
  });

  it("enters the value of a wide field", async () => {
    await (await inspector.byRole("button", "51:21 ADDRESS 1")).press("Enter");
    await inspector.page.waitForFunction(() => (document.activeElement as HTMLInputElement).value === "00000001");
    await inspector.fill("ADDRESS =", "7");
    await inspector.see("2M page at 0xe00000");
    expect(await wordField()).toBe("8000000000e011e3");
  });

  it("says that a word is none, and keeps what is shown", async () => {
    await inspector.fill("Word", "what");
    await inspector.see("expected hexadecimal digits");
    await inspector.see("2M page at 0xe00000");
  });

  it("shows a role in other kernels' layouts, and leads there", async () => {
    await inspector.go("#/decode?kind=role&word=3704");
    await inspector.see("Page role, 5.19 to 6.13: level 4");
    await inspector.page.click("details summary");
    await inspector.see("0x403704");
    await (await inspector.byRole("link", "0x403704")).click();
    await inspector.see("this project: 6.1 without special roots: level 4");
  });

  it("says that a link's word is none, or too long for its format", async () => {
    await inspector.go("#/decode?kind=spte&word=<b>");
    await inspector.see("word <b>: expected up to 16 hexadecimal digits; an example is shown");
    await inspector.go("#/decode?kind=pte&mode=32bit&level=2&word=1000001e7");
    await inspector.see("1000001e7 has more than 32 bits: the low ones are shown");
    await inspector.see("PDE: 4M page at 0x0");
    await inspector.go("#/decode?kind=smell");
    await inspector.see("kind smell: no decoder is called so");
  });

  it("is accessible, and fits", async () => {
    for (const hash of ["#/decode?kind=spte", "#/decode?kind=cr-access&word=0", "#/decode?kind=role"]) {
      await inspector.go(hash);
      await inspector.page.waitForFunction(
        (wanted: string) => document.querySelector("select")?.value === wanted,
        {},
        hash.match(/kind=([\w-]+)/)![1]!,
      );
      expect(await inspector.accessibilityFaults(), hash).toEqual([]);
      expect(await inspector.overflow(), hash).toBeLessThanOrEqual(0);
    }
  });
});
