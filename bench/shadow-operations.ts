/** Operations of the shadow MMU that should take the same time however many shadow pages there are. */

import { SHADOW_CODES } from "../src/abi/shadow.js";
import type { Candidate } from "./rounds.js";
import { DATA_GFN, DATA_HVA, type ShadowGuest } from "./shadow-guest.js";

const { RANGE_ZAP } = SHADOW_CODES;

const ERROR_WRITE = 2;
const ZERO = new Uint8Array(8);
/** Operations in a run; fewer where there are fewer tables. */
const WORK = 16;

/** Asks for the page that shadows level-1 table `table`, as a fault does. */
function requestPage({ vm, vcpu, table }: ShadowGuest, role: number, index: number): number {
  return vm.state.providePageNamed(vcpu.state, { gfn: BigInt(table(index) / 4096), role, low: 0 });
}

/**
 * What is measured, on some tables of a guest that maps its own tables and has three roots and one leaf a table, all faulted
 * in. `tables` are the numbers of level-1 tables to work on.
 */
export function operations(guest: ShadowGuest, tables: Uint32Array): Candidate[] {
  const { vm, vcpu, roots } = guest;
  const fault = (address: number, error: number) => vcpu.fault(address % 2 ** 32, Math.floor(address / 2 ** 32), error);
  fault(guest.address(0), ERROR_WRITE);
  // The last page that was asked for shadows a level-1 table.
  const level1 = vm.pages().find((page) => (page.role & 15) === 1 && page.gfn === BigInt(guest.table(0)) >> 12n)!;
  const extra = { id: 2, gpa: 1n << 44n, size: 4096, ram: vm.createRam(4096), hva: 0x7e00_0000_0000n };
  vm.setSlot(extra);
  // The shadow pages through which the guest sees its tables are made now.
  for (const index of tables) fault(guest.tableAddress(index), 0);
  for (const root of roots) {
    vcpu.writeCr3(root);
    vcpu.enterGuest();
  }
  const work = Math.min(WORK, tables.length);
  let at = 0;
  const next = () => tables[at++ % tables.length]!;
  const each = (name: string, once: () => void, before?: () => void): Candidate => ({
    name,
    work,
    ...(before === undefined ? {} : { before }),
    run: () => {
      for (let i = 0; i < work; i++) once();
    },
  });
  /** Takes away the leaves that the next run maps; taking all away would empty the processor's caches. */
  const forgetNext = () => {
    for (let i = 0; i < work; i++) {
      const gfn = BigInt(DATA_GFN + tables[(at + i) % tables.length]!);
      vm.state.core.forRange(guest.dataSlot, gfn, gfn + 1n, 1, 1, RANGE_ZAP);
    }
  };
  let logging = false;
  return [
    each("get_page, found", () => {
      requestPage(guest, level1.role, next());
    }),
    each("cold fault", () => fault(guest.address(next()), ERROR_WRITE), forgetNext),
    each("root switch, cached", () => {
      vcpu.writeCr3(roots[at++ % roots.length]!);
      vcpu.enterGuest();
    }),
    each("unsync one page, and sync it", () => {
      fault(guest.tableAddress(next()), ERROR_WRITE);
      vcpu.writeCr3(roots[0]!);
      vcpu.enterGuest();
    }),
    each("emulated write to a shadowed table", () => {
      vcpu.emulatedWrite(BigInt(guest.table(next()) + 4088), ZERO);
    }),
    each("zap one page, and make it again", () => {
      const index = next();
      vm.unprotectGfn(BigInt(guest.table(index)) >> 12n);
      fault(guest.address(index), ERROR_WRITE);
    }),
    each("switch the dirty log of a small slot", () => {
      logging = !logging;
      vm.setSlot({ ...extra, logDirty: logging });
    }),
    each("unmap one host page", () => {
      const hva = DATA_HVA + BigInt(next()) * 4096n;
      vm.unmapRange(hva, hva + 4096n);
    }),
  ];
}
