/** The playground in browsers: by keyboard and by pointer, CR0.WP's story is told to its end; links lead to a machine. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BROWSERS, InspectorPage, NOTE, WIDTHS } from "./browsers.js";

const CASES = BROWSERS.flatMap((browser) => WIDTHS.map((width) => ({ ...browser, width })));

describe.each(CASES)(`the playground in $name at $width pixels${NOTE}`, ({ width, ...browser }) => {
  let inspector: InspectorPage;
  beforeAll(async () => {
    inspector = await InspectorPage.open(browser, width, "#/play");
    await inspector.see("Registers");
  });
  afterAll(async () => {
    await inspector?.close();
    expect(inspector?.complaints).toEqual([]);
    expect(inspector?.foreign).toEqual([]);
  });

  const press = async (name: string) => (await inspector.byRole("button", name)).press("Enter");

  it("tells why a supervisor's write to a read-only page succeeds, and what KVM's shadow does then", async () => {
    await (await inspector.byRole("combobox", "Exercise")).select("write-protect");
    await inspector.see("Not done yet.");
    await press("write");
    await inspector.see("#PF, error code 0x3");
    await inspector.see("CR0.WP=1: supervisor writes respect read-only pages");
    await inspector.see("KVM gives the fault to the guest");
    await (await inspector.byRole("checkbox", "CR0.WP supervisor writes respect read-only pages")).click();
    await inspector.see("What follows was before your last change");
    await inspector.see("KVM gives the fault to the guest");
    await press("write");
    await inspector.see("physical address 0x105000, in a page of 4 KiB");
    await inspector.see("with CR0.WP=0 the processor does not look at R/W");
    await inspector.see("KVM makes the SPTE writable and takes the user right away");
    await inspector.see("PTE: can be written PTE.RW=0 CR0.WP=0");
    await inspector.see(/Done\./);
    await (await inspector.byRole("radio", "user (CPL 3)")).click();
    await press("read");
    await inspector.see("KVM turns it round: writable, and the supervisor's alone");
  });

  it("edits an entry, and shows the stale translation until INVLPG", async () => {
    await inspector.go("#/play?mode=4level");
    await inspector.see("[6] 8000000000106003");
    await inspector.fill("Linear address", "6000");
    await (await inspector.byRole("radio", "supervisor")).click();
    await press("read");
    await inspector.see("physical address 0x106000");
    await (await inspector.byRole("button", "[6] 8000000000106023")).click();
    await inspector.fill("PTE[6]", "10a003");
    await press("read");
    await inspector.see("physical address 0x106000, from the TLB: the tables no longer say so");
    await press("INVLPG");
    await press("read");
    await inspector.see("physical address 0x10a000, in a page of 4 KiB");
    expect(await inspector.page.evaluate(() => location.hash)).toContain("4030-10a023");
  });

  it("flips a flag of an entry, and enters one that is not there", async () => {
    // KVM's SPTE has a field of this name, too.
    const flag = await inspector.page.waitForSelector('.editor ::-p-aria([role="button"][name="2 US 0"])');
    await flag!.click();
    await inspector.see("[6] 10a027");
    const index = await inspector.page.waitForSelector(".play-table:last-child input[type=number]");
    await index!.type("9");
    await inspector.page.keyboard.press("Enter");
    await inspector.page.waitForFunction(() => document.activeElement?.matches(".editor input"));
    await inspector.fill("PTE[9]", "109005");
    await inspector.see("[9] 109005");
  });

  it("keeps the machine where the processor refuses a register, and says why", async () => {
    await inspector.go("#/play?mode=32bit&cr0=80010000");
    await inspector.see(/CR0/, "[role=alert]");
    await inspector.see("[9] 109005");
    await (await inspector.byRole("button", "Dismiss")).click();
  });

  it("offers a machine where a link means none", async () => {
    const other = await InspectorPage.open(browser, width, "#/play?words=1000-smell");
    try {
      await other.see("smell: expected a hexadecimal number", "[role=alert]");
      await (await other.byRole("button", "Begin with a new machine")).press("Enter");
      await other.see("[6] 8000000000106003");
    } finally {
      await other.close();
    }
  });

  it("is accessible, and fits", async () => {
    expect(await inspector.accessibilityFaults()).toEqual([]);
    expect(await inspector.overflow()).toBeLessThanOrEqual(0);
  });
});
