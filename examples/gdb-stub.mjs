/**
 * A live target behind a gdb stub as guest memory: pages are read when a walk needs them, and again after the target has run.
 *
 *   qemu-system-x86_64 -s ...; node gdb-stub.mjs 127.0.0.1:1234
 *
 * Without an address it talks to a stub of its own over a dump beside this file, so that there is something to see.
 */
import { connect, createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { loadSync } from "x86-paging";
import { listAsync, openDumpFile, registersFromDump } from "x86-paging/dump/node";

const PAGE = 4096;

/** The remote protocol: one packet at a time, `$data#checksum`. */
export class GdbStub {
  #socket;
  #received = "";
  #answered;

  constructor(socket) {
    this.#socket = socket.setEncoding("latin1").setNoDelay();
    socket.on("data", (text) => {
      this.#received += text;
      this.#deliver();
    });
    socket.on("close", () => this.#answered?.reject(new Error("the stub has closed the connection")));
    socket.on("error", (error) => this.#answered?.reject(error));
  }

  static connect(host, port) {
    return new Promise((resolve, reject) => {
      const socket = connect(port, host, () => resolve(new GdbStub(socket))).once("error", reject);
    });
  }

  /** The answer to a packet; an Error for `Enn`. */
  async ask(data) {
    const answer = await new Promise((resolve, reject) => {
      this.#answered = { resolve, reject };
      this.#socket.write(packet(data));
    });
    if (/^E[0-9a-f]{2}$/.test(answer)) throw new Error(`the stub refuses ${data}: ${answer}`);
    return answer;
  }

  /** What the monitor of QEMU prints for a command. */
  async monitor(command) {
    let answer = await this.ask(`qRcmd,${Buffer.from(command).toString("hex")}`);
    let text = "";
    while (answer.startsWith("O") && answer !== "OK") {
      text += Buffer.from(answer.slice(1), "hex").toString();
      answer = await this.ask("");
    }
    return text;
  }

  end() {
    this.#socket.end();
  }

  #deliver() {
    const found = /\$([^#]*)#[0-9a-f]{2}/.exec(this.#received);
    if (found === null || this.#answered === undefined) return;
    this.#received = this.#received.slice(found.index + found[0].length);
    this.#socket.write("+");
    const { resolve } = this.#answered;
    this.#answered = undefined;
    resolve(found[1]);
  }
}

const packet = (data) => {
  const sum = Buffer.from(data, "latin1").reduce((all, byte) => (all + byte) & 255, 0);
  return `$${data}#${sum.toString(16).padStart(2, "0")}`;
};

/** Thrown by a read of a page that has not been fetched; `fetching` fetches it and tries again. */
class MissingPage extends Error {
  constructor(gfn) {
    super(`page 0x${gfn.toString(16)} has not been fetched: use fetching()`);
    this.gfn = gfn;
  }
}

/** Guest-physical pages behind a stub, which has to be told that addresses are physical. */
export class StubMemory {
  #stub;
  #pages = new Map();

  constructor(stub) {
    this.#stub = stub;
  }

  /** Of `createMemory({ source })`. */
  readPage(gfn, into) {
    const page = this.#pages.get(gfn);
    if (page === undefined) throw new MissingPage(gfn);
    into.set(page ?? []);
    return page !== null;
  }

  /** Calls `operation` until it misses no page. */
  async fetching(operation) {
    for (;;) {
      try {
        return operation();
      } catch (error) {
        if (!(error instanceof MissingPage)) throw error;
        this.#pages.set(error.gfn, await this.#fetch(error.gfn));
      }
    }
  }

  /** The target has run: every page that was read may be another. */
  refresh(memory) {
    for (const gfn of this.#pages.keys()) memory.invalidatePage(gfn);
    this.#pages.clear();
  }

  /** null where the target has no memory. */
  async #fetch(gfn) {
    const address = (gfn * BigInt(PAGE)).toString(16);
    const answer = await this.#stub.ask(`m${address},${PAGE.toString(16)}`).catch(() => "");
    return answer.length === PAGE * 2 ? Buffer.from(answer, "hex") : null;
  }
}

/** CR0, CR3, CR4 and EFER from what `info registers` prints. */
function registersFrom(text) {
  const value = (name) => {
    const found = new RegExp(`\\b${name}=([0-9a-fA-F]+)`).exec(text);
    if (found === null) throw new Error(`the target does not tell ${name}`);
    return BigInt(`0x${found[1]}`);
  };
  return { cr0: value("CR0"), cr3: value("CR3"), cr4: value("CR4"), efer: value("EFER") };
}

/** A stub over a dump: enough of the protocol for what is above. */
async function pretend() {
  const dump = await openDumpFile(fileURLToPath(new URL("debian-amd64-la57.elf.gz", import.meta.url)));
  const { cr0, cr3, cr4, efer } = registersFromDump(dump);
  const hex = (value) => BigInt(value).toString(16);
  const registers = `CR0=${hex(cr0)} CR2=0 CR3=${hex(cr3)} CR4=${hex(cr4)} EFER=${hex(efer)}\n`;
  const answers = [Buffer.from(registers).toString("hex")];
  let asked = 0;
  const reply = (data) => {
    if (data === "Qqemu.PhyMemMode:1") return "OK";
    if (data.startsWith("qRcmd,")) return `O${answers[0]}`;
    if (data === "") return "OK";
    const [, address] = /^m([0-9a-f]+),/.exec(data);
    const page = new Uint8Array(PAGE);
    asked++;
    return dump.pageSource.readPage(BigInt(`0x${address}`) / BigInt(PAGE), page)
      ? Buffer.from(page).toString("hex")
      : "E14";
  };
  const server = createServer((socket) => {
    socket
      .setEncoding("latin1")
      .setNoDelay()
      .on("data", (text) => {
        for (const [, data] of text.matchAll(/\$([^#]*)#[0-9a-f]{2}/g)) socket.write(`+${packet(reply(data))}`);
      });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { port: server.address().port, close: () => server.close(), asked: () => asked };
}

async function main(target) {
  const own = target === undefined ? await pretend() : undefined;
  const [host, port] = own ? ["127.0.0.1", own.port] : target.split(":");
  const stub = await GdbStub.connect(host, Number(port));
  if ((await stub.ask("Qqemu.PhyMemMode:1")) !== "OK") throw new Error("the stub cannot read physical addresses");
  const registers = registersFrom(await stub.monitor("info registers"));
  const pages = new StubMemory(stub);
  const core = loadSync();
  const memory = core.createMemory({ source: pages });
  // The A bit that QEMU sets in PDPTEs of PAE paging is reserved: a reader must not mind.
  const space = await pages.fetching(() => core.createAddressSpace(memory, { ...registers, lenient: true }));
  let ranges = 0;
  let bytes = 0n;
  // Pages are fetched as the listing comes to them; it is never begun again.
  for await (const run of listAsync(space.mappings(), (operation) => pages.fetching(operation))) {
    ranges++;
    bytes += run.size;
  }
  console.log(`${space.mode}, CR3 0x${registers.cr3.toString(16)}: ${ranges} ranges, ${bytes / 1024n} KiB mapped`);
  if (own) {
    const once = own.asked();
    pages.refresh(memory);
    const first = (await pages.fetching(() => space.leaves().next())).value;
    console.log(`${once} pages read; after the target ran, ${own.asked() - once} more for 0x${first.va.toString(16)}`);
    own.close();
  }
  stub.end();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv[2]);
