/** The walk view in real browsers: by keyboard and by mouse, at a desk and on a phone. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fixture, run } from "../cli/run-main.js";
import { BROWSERS, InspectorPage, NOTE, WIDTHS } from "./browsers.js";

const EXAMPLE = join(import.meta.dirname, "..", "..", "examples", "debian-amd64-la57.elf.gz");

const texts = ({ page }: InspectorPage, selector: string) =>
  page.$$eval(selector, (all) => all.map((one) => (one as HTMLElement).innerText.replace(/\s+/g, " ").trim()));

describe.each(BROWSERS)(`the walk view in $name${NOTE}`, (browser) => {
  let inspector: InspectorPage;
  beforeAll(async () => {
    // As `x86-paging inspect FILE` does: the page reads what it needs of the file.
    inspector = await InspectorPage.open(browser, WIDTHS[0], "#/walk", [EXAMPLE]);
    await inspector.see("0x1fc05969: 4K page, user, read-only, executable");
  });
  afterAll(() => inspector?.close());

  it("walks the example's instruction pointer, check by check", async () => {
    const entries = await texts(inspector, ".step h3");
    expect(entries.map((entry) => entry.split(/\s/)[0])).toEqual(["PML5E", "PML4E", "PDPTE", "PDE", "PTE"]);
    const checks = await texts(inspector, ".check");
    expect(checks[0]).toBe("ok address: canonical CR4.LA57=1");
    expect(checks).toContain("ok PTE: present PTE.P=1");
    expect(await texts(inspector, "[aria-label='Indices of the address'] .field code")).toEqual([
      ...["[0]", "[0]", "[0]", "[2]", "[1]"],
      "969",
    ]);
  });

  it("answers as the command line does", async () => {
    await inspector.go("#/walk?address=404123&access=write&user=1");
    await inspector.see("page fault");
    const { stdout } = await run([
      "walk",
      EXAMPLE,
      "404123",
      "--access",
      "write",
      "--user",
      "--explain",
      "--json",
      "-q",
    ]);
    const { explanation, result, steps } = JSON.parse(stdout);
    expect(await inspector.text(".outcome")).toContain(`error code ${result.errorCode}`);
    expect((await texts(inspector, ".check")).map((text) => text.split(" ")[0] === "ok")).toEqual(
      explanation.checks.map(({ passed }: { passed: boolean }) => passed),
    );
    expect((await texts(inspector, ".step h3 code")).map((word) => BigInt(`0x${word}`))).toEqual(
      steps.map(({ entry }: { entry: string }) => BigInt(entry)),
    );
    const refused = await texts(inspector, ".check.refused");
    expect(refused).toHaveLength(1);
    expect(refused[0]).toMatch(/^NO PTE: .*RW=0/);
    expect(await texts(inspector, ".step.refused h3")).toEqual([expect.stringMatching(/^PTE .* refuses$/)]);
  });

  describe.each(WIDTHS)("at %i pixels", (width) => {
    beforeAll(async () => {
      await inspector.page.setViewport({ width, height: 900 });
      if (width === WIDTHS[0]) return;
      await inspector.go("#/dump");
      await (await inspector.byRole("button", "Example: Debian, 5 levels")).click();
      await inspector.see("65827 ranges");
    });

    it("says by keyboard which bit decides, where an address is not mapped", async () => {
      await inspector.go("#/walk");
      await inspector.fill("Address", "1000");
      await inspector.see(/NO PTE: not present PTE\.P=0/);
      expect((await texts(inspector, ".check.refused"))[0]).toMatch(/: not present \w+\.P=0$/);
      await inspector.page.$eval(".outcome summary", (summary) => (summary as HTMLElement).focus());
      await inspector.page.keyboard.press("Enter");
      await inspector.see("because");
    });

    it("shows a nested guest's walk as a grid, and the entry that refuses, by mouse", async () => {
      await inspector.go("#/walk");
      await inspector.page.$$eval("details", (all) => {
        for (const one of all) one.setAttribute("open", "");
      });
      await (await inspector.byRole("button", "Example: a nested guest")).click();
      await inspector.see("0x15123: 4K page, user, writable, executable, guest-physical 0x5123");
      const rows = await texts(inspector, ".stage-grid tbody th");
      expect(rows).toEqual(["PML4E 0x1000", "PDPTE 0x2000", "PDE 0x3010", "PTE 0x4008", "page 0x5123"]);
      expect(await inspector.page.$$eval(".stage-cell", (cells) => cells.length)).toBe(20);
      const [first] = await inspector.page.$$(".stage-grid tbody tr:last-child .stage-cell");
      await first!.click();
      await inspector.see("host PML4[0], read at 0x1000");

      await inspector.page.select("main form + .controls select", "write");
      await inspector.fill("Address", "402123");
      await inspector.see("EPT violation: the second-stage PTE, exit qualification");
      expect(await texts(inspector, ".stage-cell.refused code")).toEqual(["PT[6]"]);
      expect(await texts(inspector, ".check.refused")).toEqual([expect.stringContaining("second-stage PTE")]);
      await inspector.fill("Address", "403123");
      await inspector.see(/EPT violation: the second-stage PTE/);
      expect(await texts(inspector, ".stage-cell.refused code")).toEqual(["PT[9]"]);
    });

    it("is accessible with all of it on screen, and fits", async () => {
      await inspector.page.$$eval("details", (all) => {
        for (const one of all) one.setAttribute("open", "");
      });
      expect(await inspector.accessibilityFaults()).toEqual([]);
      expect(await inspector.overflow()).toBeLessThanOrEqual(0);
    });
  });

  it("reads large pages as such", async () => {
    await inspector.page.setViewport({ width: WIDTHS[0], height: 900 });
    await inspector.go("#/dump");
    const field = (await inspector.page.waitForSelector("input[type=file]"))!;
    await (field as typeof field & { uploadFile(path: string): Promise<void> }).uploadFile(fixture("i386-pae"));
    await inspector.see("PAE paging");
    await inspector.see(/\d+ ranges/);
    await inspector.go("#/walk?address=c1000123");
    await inspector.see("0x1000123: 2M page");
    const fields = await texts(inspector, ".steps li:last-child .field:not(.zero) b");
    expect(fields.join(" ")).toBe("XD ADDRESS G PS D A RW P");
  });

  it("complained of nothing, and asked nobody else", () => {
    expect(inspector.complaints).toEqual([]);
    expect(inspector.foreign).toEqual([]);
  });
});
