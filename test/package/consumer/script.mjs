// What a user's script may look like: it uses every entry of the installed package and prints what each gave.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Access, load, loadSync } from "x86-paging";
import { bitOf, CR0 } from "x86-paging/abi";
import { parseVector, runVector } from "x86-paging/conform";
import { load as loadFrom } from "x86-paging/core";
import { decodeWord } from "x86-paging/decode";
import { openDumpAsync, registersFromDump } from "x86-paging/dump";
import { openDumpFile } from "x86-paging/dump/node";
import { explain } from "x86-paging/explain";
import { fuzzRound } from "x86-paging/fuzz";
import { pagingModeOf } from "x86-paging/maps";
import { VirtualMachine } from "x86-paging/mmu";
import { RULES } from "x86-paging/recording";
import { createReference } from "x86-paging/reference";
import { guestLevel } from "x86-paging/role";
import { loadShared } from "x86-paging/shared";
import { decodeSpte } from "x86-paging/spte";
import { createSpace, saveSpace } from "x86-paging/state";
import { analyseTrace } from "x86-paging/trace";

const [dumpFile, address, vector] = process.argv.slice(2);
const exported = (name) => readFileSync(fileURLToPath(import.meta.resolve(`x86-paging/${name}`)));

const file = await openDumpFile(dumpFile);
const { dump: bytes } = await openDumpAsync(readFileSync(dumpFile));
const registers = registersFromDump(file);
const { cr0, cr4, efer } = registers;

const wasm = exported("core.wasm");
const url = new URL(import.meta.resolve("x86-paging/core.wasm"));
const engines = [await load(), loadSync(), await load(wasm), await loadFrom(url), createReference()];
const spaces = engines.map((engine, number) => {
  const memory = engine.createMemory({ source: (number === 0 ? file : bytes).pageSource });
  return engine.createAddressSpace(memory, { ...registers, lenient: true });
});
const translations = spaces.map((space) => {
  const result = space.translate(BigInt(address), Access.Read);
  return result.ok ? result.pa.toString(16) : `status ${result.status}`;
});
const again = createSpace(engines[0], spaces[0].memory, saveSpace(spaces[0]));
const { checks } = explain(spaces[1], BigInt(address), Access.Read);
file.close();

const threads = new WebAssembly.Memory({ initial: 4, maximum: 4, shared: true });
const shared = await loadShared(undefined, { memory: threads, region: { base: 0x10000, size: 0x10000 } });

const traced = await analyseTrace("CPU 0/KVM-7 [000] 1.5: kvm_entry: vcpu 3, rip 0x1000\n");

console.log(
  JSON.stringify({
    version: JSON.parse(exported("package.json")).version,
    translations,
    again: again.translate(BigInt(address), Access.Read).ok,
    checks: checks.length > 0,
    vector: runVector(engines[2], parseVector(vector, 1)).passed,
    difference: fuzzRound(engines[1], engines[4], 1, 20) ?? "none",
    level: guestLevel({ cr0: Number(cr0), cr4: Number(cr4), efer: Number(efer) }),
    paging: (BigInt(cr0) & bitOf(CR0, "PG")) !== 0n && pagingModeOf(registers),
    shared: shared.createMemory({}).slots.length,
    vm: typeof VirtualMachine,
    rules: Object.keys(RULES).length > 0,
    fault: decodeWord("error-code", 7n).summary,
    spte: decodeSpte(0n, { format: "ept", level: 1 }).kind,
    entries: traced.report.summary.vcpus[0].entries,
  }),
);
