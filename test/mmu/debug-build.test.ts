/** The debug build of the core: the same behaviour, and a trap where an SPTE breaks an invariant. */
import { describe, expect, it } from "vitest";
import { type Core, loadSync } from "../../src/index.js";
import { compileDebug } from "../asc.js";
import { FULL, Guest, MASKS } from "./guest.js";

const bytes = compileDebug();

const GVA = 0x40_0000n;
const WRITE = 2;

/** Lets a guest write to a page, with masks of its own. */
function write(core: Core, masks: Partial<typeof MASKS>): string {
  const guest = new Guest({ masks: { ...MASKS, ...masks } }, core);
  const table = guest.table();
  guest.map(table, GVA, 0x20_0000n, FULL);
  guest.start("4level", table);
  try {
    return guest.vcpu.pageFault(GVA, WRITE).result;
  } finally {
    guest.vm.dispose();
  }
}

describe("the debug build", () => {
  const debug = () => loadSync(bytes);

  it("handles a fault as the release build does", () => {
    expect(write(debug(), {})).toBe("fixed");
    expect(write(loadSync(), {})).toBe("fixed");
  });

  it.each([
    ["MMU-writable without host-writable", { hostWritable: 0n }],
    ["writable without MMU-writable", { mmuWritable: 0n }],
  ])("traps where a leaf is %s, which the release build does not look at", (_name, masks) => {
    expect(() => write(debug(), masks)).toThrow(WebAssembly.RuntimeError);
    expect(() => write(loadSync(), masks)).not.toThrow();
  });
});
