/** The MMU view in browsers: examples and a recording, step by step, by keyboard and by pointer. */
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { packRecording } from "../../src/recording/index.js";
import { ROOT } from "../package/packed.js";
import { BROWSERS, InspectorPage, NOTE, WIDTHS } from "./browsers.js";

const CASES = BROWSERS.flatMap((browser) => WIDTHS.map((width) => ({ ...browser, width })));

describe.each(CASES)(`the MMU view in $name at $width pixels${NOTE}`, ({ width, ...browser }) => {
  let inspector: InspectorPage;
  let folder: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "inspector-"));
    const recording = join(ROOT, "test", "fixtures", "recordings", "b3p_pae_pdpte", "npt0");
    writeFileSync(join(folder, "pae.recording"), packRecording(recording));
    writeFileSync(join(folder, "none.recording"), "no recording");
    copyFileSync(
      join(ROOT, "test", "fixtures", "recordings", "h10_lm4_smm", "npt0", "trace.txt.gz"),
      join(folder, "trace.txt.gz"),
    );
    inspector = await InspectorPage.open(browser, width, "#/mmu?example=stale-role-bit&step=7");
  });
  afterAll(async () => {
    rmSync(folder, { recursive: true });
    await inspector?.close();
    expect(inspector?.complaints).toEqual([]);
    expect(inspector?.foreign).toEqual([]);
  });

  const choose = async (name: string) => {
    const field = await inspector.page.waitForSelector("input[type=file]");
    await (field as unknown as { uploadFile(path: string): Promise<void> }).uploadFile(join(folder, name));
  };

  it("shows by a link why no switch finds its root", async () => {
    await inspector.see("8 of 8: Round 3: L2 exits to L1");
    await inspector.see(/without the bit.*3 \/ 0.*with the stale bit \(cr4_pae\).*0 \/ 3/);
  });

  it("goes through an example by the keyboard", async () => {
    await (await inspector.byRole("combobox", "Example")).select("unsync");
    await inspector.see("1 of 8");
    await (await inspector.page.waitForSelector("input[type=range]"))!.focus();
    for (const _ of [1, 2, 3]) await inspector.page.keyboard.press("ArrowRight");
    await inspector.see("4 of 8: A write to 0x6000");
    expect(await inspector.page.evaluate(() => location.hash)).toBe("#/mmu?example=unsync&step=3");
    const box = await inspector.byRole("button", "gfn 0x4, 2 entries, l1 wux, changed, unsync");
    await box.evaluate((element) => (element as unknown as SVGElement).focus());
    await inspector.page.keyboard.press("Enter");
    await inspector.see("Role 0x");
    await (await inspector.byRole("button", "Next")).press("Enter");
    await inspector.see("5 of 8");
    await inspector.see(/\[7\] 7007 changed/);
  });

  it("shows a recorded kernel's special roots beside ordinary ones, by the pointer", async () => {
    await choose("pae.recording");
    await inspector.see("b3p_pae_pdpte, Linux 6.1");
    await inspector.see("Linux 6.1, as recorded");
    await (await inspector.byRole("button", "Next")).click();
    await inspector.see(/^.*2 of \d+: /);
    await inspector.see(/pae_root, level 3/);
    await inspector.page.click(".box.special");
    await inspector.see("A table of KVM's own, outside the hash");
  });

  it("reads a kernel's trace, fault by fault", async () => {
    await choose("trace.txt.gz");
    await inspector.see("What the trace tells");
    await inspector.see(/A trace \(tracing\/trace\) of Linux/);
    await (await inspector.byRole("combobox", "Go to step")).select("3");
    await inspector.see(/4 of 4: kvm_page_fault/);
    expect(await inspector.accessibilityFaults()).toEqual([]);
    expect(await inspector.overflow()).toBeLessThanOrEqual(0);
    await choose("pae.recording");
    await inspector.see("Linux 6.1, as recorded");
    await (await inspector.byRole("button", "Next")).click();
  });

  it("is accessible, and fits", async () => {
    expect(await inspector.accessibilityFaults()).toEqual([]);
    expect(await inspector.overflow()).toBeLessThanOrEqual(0);
  });

  it("says why a file is none, and keeps what is open", async () => {
    await choose("none.recording");
    await inspector.see(/none\.recording/, "[role=alert]");
    await inspector.see("b3p_pae_pdpte, Linux 6.1");
    await (await inspector.byRole("button", "Dismiss")).click();
  });
});
