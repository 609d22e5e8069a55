/** A boot stream replayed through the core: a machine whose page tables are the recorded ones, made entry by entry. */
import { Access, Status } from "../../src/abi/index.js";
import { type Core, type CoreMemory, type CoreSpace, decodeFault } from "../../src/core/index.js";
import { type BootStream, FIRST_HASH, HASHED, hashFrame, OP } from "./stream.js";

const RAM = 256 << 20;
const PAGE = 4096;

export class BootMachine {
  readonly memory: CoreMemory;
  readonly space: CoreSpace;
  /** Linear address of the guest's RAM, which is lent. */
  readonly ram: number;
  readonly ramSize = RAM;
  readonly #core: Core;
  readonly #stream: BootStream;
  /** Values of CR3 as `writeCr3` likes them best. */
  readonly #cr3: readonly (number | bigint)[];
  /** Pages that have page tables. */
  readonly #tables: readonly number[];

  /** `tlbEntries` 0: no software TLB. */
  constructor(core: Core, stream: BootStream, tlbEntries: number) {
    const { linear } = core.internals();
    this.#core = core;
    this.#stream = stream;
    this.ram = linear.lend(RAM, PAGE);
    this.memory = core.createMemory({ slots: [{ gpa: 0, size: RAM, linear: this.ram }] });
    const { value } = stream;
    this.#cr3 = Array.from({ length: stream.count }, (_, i) =>
      stream.op[i] === OP.cr3 ? (value[i]! < 1n << 53n ? Number(value[i]) : value[i]!) : 0,
    );
    const edits = Array.from(stream.op.keys()).filter((i) => stream.op[i] === OP.edit);
    this.#tables = [...new Set(edits.map((i) => Math.floor(stream.place[i]! / PAGE)))];
    const config = { ...registersAt(stream, 0), cr3: stream.value[1]! & ~(1n << 63n) };
    this.space = core.createAddressSpace(this.memory, { ...config, ...(tlbEntries !== 0 && { tlbEntries }) });
  }

  /** As before the first operation. */
  reset(): void {
    const { u8 } = this.#core.internals().linear;
    for (const page of this.#tables) u8.fill(0, this.ram + page * PAGE, this.ram + (page + 1) * PAGE);
    const { cr0, cr4, efer } = registersAt(this.#stream, 0);
    this.space.writeCr3(this.#cr3[1]!);
    this.space.update({ cr0, cr4, efer });
    this.space.invpcid(2, 0, 0);
  }

  /** The operations from `from` up to, not including, `to`. Returns a sum of what the accesses gave. */
  run(from = 0, to = this.#stream.count): number {
    const { op, access, high, low, place, value } = this.#stream;
    const { space } = this;
    const { u64 } = this.#core.internals().linear;
    let sum = 0;
    for (let i = from; i < to; i++) {
      const what = op[i]!;
      if (what === OP.access || what === OP.fault) sum += space.translateFast(high[i]!, low[i]!, access[i]!);
      else if (what === OP.edit) u64[(this.ram + place[i]!) / 8] = value[i]!;
      else this.#rare(what, i);
    }
    return sum;
  }

  #rare(what: number, i: number): void {
    const { access, high, low, value } = this.#stream;
    const address = () => (BigInt(high[i]!) << 32n) | BigInt(low[i]!);
    if (what === OP.cr3) this.space.writeCr3(this.#cr3[i]!);
    else if (what === OP.invlpg) this.space.invlpg(address());
    else if (what === OP.invpcid) this.space.invpcid(access[i]!, Number(value[i]!), address());
    else this.space.update(registersAt(this.#stream, i));
  }

  /**
   * Goes through the stream once and compares with what the emulator found. Returns what differs, at most ten of it, and the sum of
   * all physical addresses.
   */
  verify(): { readonly wrong: readonly string[]; readonly sum: number } {
    const { count, op, access, high, low, value, hashes } = this.#stream;
    const wrong: string[] = [];
    let sum = 0;
    let hash = FIRST_HASH;
    this.reset();
    for (let i = 0; i < count && wrong.length < 10; i++) {
      const what = op[i]!;
      if (what !== OP.access && what !== OP.fault) this.run(i, i + 1);
      else {
        const result = this.space.translateFast(high[i]!, low[i]!, access[i]!);
        sum += Math.max(result, 0);
        const name = `operation ${i}, address 0x${(high[i]! * 2 ** 32 + low[i]!).toString(16)}, access ${access[i]}`;
        if (what === OP.fault) {
          const { status, errorCode } = decodeFault(result);
          const expected = Number(value[i]);
          if (result >= 0 || status !== Status.PageFault || errorCode !== expected) {
            wrong.push(`${name}: ${result >= 0 ? "no fault" : `code ${errorCode}`}, recorded code ${expected}`);
          }
        } else if (result < 0) wrong.push(`${name}: a fault, ${JSON.stringify(decodeFault(result))}`);
        else if (!(access[i]! & Access.Fetch)) hash = hashFrame(hash, result / PAGE);
      }
      if ((i + 1) % HASHED === 0 || i + 1 === count) {
        const block = Math.floor(i / HASHED);
        if (hash >>> 0 !== hashes[block]) wrong.push(`another frame among the operations before ${i + 1}`);
        hash = hashes[block]! | 0;
      }
    }
    return { wrong, sum };
  }

  dispose(): void {
    this.memory.dispose();
    this.#core.internals().linear.takeBack(this.ram, RAM);
  }
}

function registersAt(stream: BootStream, i: number): { cr0: number; cr4: number; efer: number } {
  const value = stream.value[i]!;
  return { cr0: Number(value & 0xffff_ffffn), cr4: Number(value >> 32n), efer: stream.place[i]! };
}
