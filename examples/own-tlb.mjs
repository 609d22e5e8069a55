/**
 * A TLB of an emulator's own over x86-paging: entries of 4 KiB that hold rights, not verdicts, so that CPL, EFLAGS.AC, CR0.WP
 * and protection keys may change without a flush. What an entry does not clearly allow is walked: faults come from walks alone.
 * docs/embedding.md says why each line is there.
 */
import { Access, loadSync, ResultFlag, ResultLine } from "x86-paging";

const ENTRIES = 1024;
const [EXECUTE, WRITE, USER] = [1, 2, 4];
const GLOBAL = -1;

export class OwnTlb {
  /** By place: page number, context (a PCID, or GLOBAL), frame number, rights | dirty << 3 | key << 4. */
  #pages = new Float64Array(ENTRIES).fill(-1);
  #contexts = new Int32Array(ENTRIES);
  #frames = new Float64Array(ENTRIES);
  #rights = new Int32Array(ENTRIES);
  #hasLarge = false;
  hits = 0;
  walks = 0;

  /** `registers`: cr0, cr3, cr4 as unsigned numbers, pkru; the emulator keeps them as its guest writes them. */
  constructor(core, space, registers) {
    this.core = core;
    this.space = space;
    this.registers = registers;
  }

  get #pcid() {
    const { cr3, cr4 } = this.registers;
    return cr4 & 0x20000 ? cr3 & 0xfff : 0;
  }

  /** The physical address, or -1: the fault is in the core's result line then. */
  translate(high, low, access) {
    const page = high * 2 ** 20 + (low >>> 12);
    const at = (page ^ (page >>> 10)) & (ENTRIES - 1);
    const found = this.#pages[at] === page && (this.#contexts[at] === GLOBAL || this.#contexts[at] === this.#pcid);
    if (found && this.#allows(this.#rights[at], access)) {
      this.hits++;
      return this.#frames[at] * 4096 + (low & 0xfff);
    }
    return this.#walk(page, at, high, low, access);
  }

  /** Whether the entry allows the access for certain, dirty flag included. */
  #allows(rights, access) {
    const { cr0, cr4, pkru } = this.registers;
    const user = (access & Access.User) !== 0;
    const writes = (access & Access.Write) !== 0;
    const fetches = (access & Access.Fetch) !== 0;
    if (access & (Access.Implicit | Access.Probe)) return false;
    const userPage = (rights & USER) !== 0;
    if (user && !userPage) return false;
    // CR4.SMEP, and CR4.SMAP where EFLAGS.AC does not lift it.
    if (!user && userPage && (fetches ? cr4 & 0x100000 : cr4 & 0x200000 && !(access & Access.Ac))) return false;
    if (fetches) return (rights & EXECUTE) !== 0;
    const protects = user || (cr0 & 0x10000) !== 0;
    if (writes && (!(rights & 8) || (protects && !(rights & WRITE)))) return false;
    // Of keys only the user pages' are looked at here: supervisor pages have IA32_PKRS, which this emulator has not.
    const key = rights >>> 4;
    if (!(cr4 & 0x400000) || !userPage) return !(cr4 & 0x1000000);
    const denied = (pkru >>> (2 * key)) & 3;
    return !(denied & 1) && !(writes && denied & 2 && protects);
  }

  #walk(page, at, high, low, access) {
    this.walks++;
    if (this.space.translateLine(high, low, access) !== 0) {
      // A fault drops what the TLB has of its page (SDM, "Operations that Invalidate TLBs").
      this.invlpg(high, low);
      return -1;
    }
    const line = this.core.resultLine;
    const frame = (line[ResultLine.paHigh] >>> 0) * 2 ** 20 + (line[ResultLine.paLow] >>> 12);
    // Both stages have a say in writing and executing; whose page it is says the first.
    const second = line[ResultLine.secondRights] | USER;
    const rights = line[ResultLine.rights] & second & 7;
    const flags = line[ResultLine.flags];
    if (!(access & (Access.Probe | Access.Implicit))) {
      this.#pages[at] = page;
      this.#contexts[at] = flags & ResultFlag.global ? GLOBAL : this.#pcid;
      this.#frames[at] = frame;
      if (line[ResultLine.pageShift] > 12) this.#hasLarge = true;
      this.#rights[at] = rights | (flags & ResultFlag.dirty ? 8 : 0) | (line[ResultLine.key] << 4);
    }
    return frame * 4096 + (low & 0xfff);
  }

  /** INVLPG. A large page is here in pieces of 4 KiB, which all go: with any of them, everything does. */
  invlpg(high, low) {
    if (this.#hasLarge) this.flush(true);
    const page = high * 2 ** 20 + (low >>> 12);
    const at = (page ^ (page >>> 10)) & (ENTRIES - 1);
    if (this.#pages[at] === page) this.#pages[at] = -1;
  }

  /** MOV to CR3: what is not global goes, of the new PCID. Other changes (PG, PGE, PAE, PSE, NXE, SMEP set) flush it all. */
  flush(all = false) {
    const pcid = this.#pcid;
    if (all) this.#hasLarge = false;
    for (let at = 0; at < ENTRIES; at++) {
      if (all || this.#contexts[at] === pcid) this.#pages[at] = -1;
    }
  }
}

/** A guest that touches a few pages over and over, as guests do. */
function demonstrate() {
  const core = loadSync();
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 1 << 20 }] });
  memory.writeU64(0x1000, 0x2007n);
  memory.writeU64(0x2000, 0x3007n);
  memory.writeU64(0x3000, 0x4007n);
  for (let page = 0; page < 256; page++) memory.writeU64(0x4000 + 8 * page, BigInt(page << 12) | 7n);
  const registers = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, pkru: 0 };
  const space = core.createAddressSpace(memory, { ...registers, efer: 0xd00 });
  const tlb = new OwnTlb(core, space, registers);
  for (let step = 0; step < 100_000; step++) {
    const page = (step * 7) % 64;
    const access = step % 3 === 0 ? Access.Write | Access.User : Access.Read | Access.User;
    if (tlb.translate(0, page * 4096 + 8, access) !== page * 4096 + 8) throw new Error(`page ${page} is elsewhere`);
  }
  console.log(`${tlb.hits} hits, ${tlb.walks} walks`);
}

if (import.meta.url === new URL(`file://${process.argv[1]}`).href) demonstrate();
