/** The dump view in real browsers: by keyboard and by mouse, at a desk and on a phone. */
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fixture, run } from "../cli/run-main.js";
import { elfCore, qemuNote, table64 } from "../dump/builders.js";
import { temporaryFolder } from "../temporary.js";
import { BROWSERS, InspectorPage, NOTE, WIDTHS } from "./browsers.js";

const FIXTURES = join(import.meta.dirname, "..", "fixtures");
const temporary = temporaryFolder();
const MARKUP = "<img src=x onerror=alert(1)>.elf";
const all = (entry: bigint) => table64(Object.fromEntries(Array.from({ length: 512 }, (_, i) => [i, entry])));
const toTable = (frame: number) => (BigInt(frame) << 12n) | 7n;
/** 2^27 mappings, to which as many tables lead, in a file whose name is markup. */
const hostile = temporary.file(
  MARKUP,
  elfCore({
    notes: qemuNote({ cr3: 0x1000n, cr4: 0x20n }),
    segments: [all(toTable(2)), all(toTable(3)), all(toTable(4)), table64({ 511: 0x9007n })].map((bytes, index) => ({
      gpa: BigInt(index + 1) << 12n,
      bytes,
    })),
  }),
);

async function choose({ page }: InspectorPage, ...paths: string[]): Promise<void> {
  const field = (await page.$("input[type=file]"))!;
  await field.uploadFile(...paths);
}

const focusName = ({ page }: InspectorPage) =>
  page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? "");

/** Puts the focus into the map and gives the name of the cell that has it. */
async function focusMap(inspector: InspectorPage): Promise<string> {
  await inspector.page.$eval("[role=grid] [tabindex='0']", (cell) => (cell as HTMLElement).focus());
  return focusName(inspector);
}

describe.each(BROWSERS)(`the dump view in $name${NOTE}`, (browser) => {
  let inspector: InspectorPage;
  beforeAll(async () => {
    inspector = await InspectorPage.open(browser, WIDTHS[0], "#/dump");
    await inspector.see("65827 ranges");
  });
  afterAll(() => inspector?.close());

  it("opens the example, and says what everything rests on", async () => {
    await inspector.see("ELF64 core, machine x86_64, 40 memory segments");
    await inspector.see("5-level paging");
    await inspector.see("0x2634000 note QEMU cpu 0");
    await inspector.see("inferred: the ELF machine is x86-64, so LMA=1");
  });

  it("lists what maps lists", async () => {
    const { stdout } = await run(["maps", fixture("amd64-la57"), "--json", "-q", "--wx"]);
    const expected = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    await (await inspector.byRole("checkbox", "W+X")).click();
    await inspector.see(`${expected.length} range${expected.length === 1 ? "" : "s"} of`);
    const rows = await inspector.page.$$eval("[aria-label=Ranges] [role=option]", (options) =>
      options.map((option) => (option as HTMLElement).innerText.replace(/\s+/g, " ")),
    );
    expect(rows.map((row) => `0x${row.split(" ")[0]!.replace(/^0+(?=.)/, "")}`)).toEqual(expected.map(({ va }) => va));
    await (await inspector.byRole("checkbox", "W+X")).click();
    await inspector.see("65827 ranges,");
  });

  describe.each(WIDTHS)("at %i pixels", (width) => {
    beforeAll(() => inspector.page.setViewport({ width, height: 900 }));

    it("zooms and goes through ranges and pages by keyboard", async () => {
      const { keyboard } = inspector.page;
      await expect.poll(() => focusMap(inspector)).toMatch(/^PML5\[0\] 0x0: table at/);
      await keyboard.press("Enter");
      await inspector.see("PML4 at");
      await inspector.page.waitForFunction(() => document.activeElement?.ariaLabel?.startsWith("PML4[0]"));
      await keyboard.press("ArrowRight");
      await keyboard.press("ArrowDown");
      await expect.poll(() => focusName(inspector)).toMatch(width === 390 ? /^PML4\[17\]/ : /^PML4\[33\]/);
      await keyboard.press("Backspace");
      await inspector.see("PML5 at");

      await inspector.fill("Go to address", "401969");
      await inspector.page.waitForSelector("[aria-label=Ranges] [aria-selected=true]");
      await inspector.page.focus("[aria-label=Ranges]");
      await keyboard.press("ArrowDown");
      await keyboard.press("Enter");
      await inspector.see("0x404000 → 0x1ce00000: 4K page, user, read-only, executable");
      await (await inspector.byRole("button", "Next page")).focus();
      await keyboard.press("Enter");
      await inspector.see("0x405000 → 0x1ce01000");
    });

    it("zooms to a page, walks it and finds who maps it by mouse", async () => {
      for (const place of ["PML5[0]", "PML4[0]", "PDPT[0]", "PD[2]"]) {
        await inspector.page.waitForFunction(
          (start) =>
            [...document.querySelectorAll("[role=gridcell]")].some((cell) => cell.ariaLabel?.startsWith(`${start} `)),
          {},
          place,
        );
        await (await inspector.page.$(`[role=gridcell][aria-label^="${place} "]`))!.click();
      }
      await inspector.see("PT at");
      await (await inspector.page.waitForSelector('[role=gridcell][aria-label^="PT[1] "]'))!.click();
      await inspector.see("0x401000 → 0x1fc05000: 4K page, user, read-only, executable");
      await (await inspector.byRole("button", "Find in this space")).click();
      await inspector.see(/\d+ address(es)? of 0x1fc05000/);
      const { stdout } = await run(["find", fixture("amd64-la57"), "0x1fc05000", "-q"]);
      expect(await inspector.page.$$eval("[aria-label='Addresses found'] [role=option]", (rows) => rows.length)).toBe(
        stdout.trimEnd().split("\n").length,
      );
      await (await inspector.byRole("button", "PML5")).click();
      await inspector.see("PML5 at");
    });

    it("is accessible with all of it on screen, and fits", async () => {
      await (await inspector.byRole("button", "Find address spaces")).click();
      await inspector.see("1 address space");
      await inspector.page.$$eval("details", (all) => {
        for (const one of all) one.setAttribute("open", "");
      });
      await inspector.page.waitForSelector("[aria-label='Entries of the table']");
      expect(await inspector.accessibilityFaults()).toEqual([]);
      expect(await inspector.overflow()).toBeLessThanOrEqual(0);
    });
  });

  it("leads back to where a link leads: the space, the address, the filters", async () => {
    await inspector.page.setViewport({ width: WIDTHS[0], height: 900 });
    const fragment = await inspector.page.evaluate(() => location.hash);
    expect(fragment).toContain("address=401000");
    await inspector.go("#/dump?cr3=2634000&table=0.0&filter=user&address=404123");
    await inspector.see("PDPT at");
    await inspector.see("0x404000 → 0x1ce00000");
    await inspector.see("0x2634000 given");
    await inspector.see(/\d+ ranges of 65827/);
    await inspector.go("#/dump?cr3=2634000&table=0.0&filter=user,huge&order=size&address=404123");
    await inspector.see("6 ranges of 65827");
    await inspector.go("#/dump?cr3=2634000");
    await inspector.see("65827 ranges,");
  });

  it.each(["kdump/zstd.kdump", "kdump/lzo.flattened", "packed/i386-nopae.elf.xz"])("opens %s", async (name) => {
    await choose(inspector, join(FIXTURES, name));
    await inspector.see(basename(name), "#facts-title");
    await inspector.see(/kdump-compressed|machine i386, 15 memory segments/);
    await inspector.see("32-bit paging");
    await inspector.see(/\d+ ranges/);
    await inspector.fill("Address", "c1000123");
    await inspector.see("0xc1000000 → 0x1000000: 4K page");
  });

  it("shows the dump that was chosen last", async () => {
    await (await inspector.byRole("button", "Example: Debian, 5 levels")).click();
    await choose(inspector, fixture("i386-pae"));
    await inspector.see("PAE paging");
    await inspector.see(/\d+ ranges/);
    // Whatever the other one's opening still had to say would come now.
    await expect
      .poll(async () => {
        const shown = await inspector.text();
        await new Promise((resolve) => setTimeout(resolve, 300));
        return (await inspector.text()) === shown;
      })
      .toBe(true);
    const shown = await inspector.text();
    expect(shown).toContain("PAE paging");
    expect(shown).not.toContain("5-level paging");
    await choose(inspector, fixture("i386-nopae"));
    await inspector.see("32-bit paging");
  });

  it("takes a file that is dropped", async () => {
    await inspector.page.evaluate(() => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File(["{}"], "dropped.json"));
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    });
    await inspector.see(/dropped\.json: .*expected an ELF core/, "[role=alert]");
    await inspector.see("32-bit paging");
  });

  it("says in a line why a file is no dump, and keeps what is open", async () => {
    await choose(inspector, join(import.meta.dirname, "..", "..", "package.json"));
    await inspector.see(/package\.json: .*expected an ELF core/, "[role=alert]");
    await inspector.see("32-bit paging");
  });

  it("shows a hostile file's name as text, and ends its listing when asked", async () => {
    await choose(inspector, hostile);
    await inspector.see(MARKUP);
    expect(await inspector.page.$("main img")).toBeNull();
    await (await inspector.byRole("button", "Cancel Listing ranges")).click();
    await inspector.see(/The first \d+ ranges \(the listing was ended\)/);
    await inspector.fill("Go to address", "fffffffffffff000");
    await inspector.see(/Listed from 0xfffffffffffff000 on/);
    await inspector.see("fffffffffffff000 – ffffffffffffffff");
  });

  it("complained of nothing, and asked nobody else", () => {
    expect(inspector.complaints).toEqual([]);
    expect(inspector.foreign).toEqual([]);
  });
});
