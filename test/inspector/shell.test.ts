/** The inspector as a site: its views are reached by keyboard, nothing is asked of others, nothing is hard to use. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
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
