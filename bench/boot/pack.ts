/** Makes a boot stream of what the instrumentation of README.md has recorded: `npx tsx bench/boot/pack.ts RECORDED OUTPUT`. */
import { readFileSync, writeFileSync } from "node:fs";
import { Access } from "../../src/abi/index.js";
import { emptyStream, FIRST_HASH, HASHED, hashFrame, OP, packStream } from "./stream.js";

const RECORD = 17;
/** Flags of a recorded access. */
const FLAGS: readonly (readonly [recorded: number, access: number])[] = [
  [2, Access.Write],
  [4, Access.User],
  [16, Access.Fetch],
  [32, Access.Ac],
];

const [input, output] = process.argv.slice(2);
if (input === undefined || output === undefined) throw new Error("usage: pack.ts RECORDED OUTPUT");
const bytes = readFileSync(input);
const count = Math.floor(bytes.length / RECORD);
const stream = emptyStream(count, new Uint32Array(Math.ceil(count / HASHED)));
let hash = FIRST_HASH;
for (let i = 0; i < count; i++) {
  const at = i * RECORD;
  const op = bytes[at]!;
  const [first, second] = [bytes.readBigUInt64LE(at + 1), bytes.readBigUInt64LE(at + 9)];
  stream.op[i] = op;
  if (op === OP.access || op === OP.fault || op === OP.invlpg || op === OP.invpcid) {
    stream.high[i] = Number(first >> 32n);
    stream.low[i] = Number(first & 0xffff_f000n);
  }
  const flags = FLAGS.reduce((all, [bit, access]) => all | (Number(second & 0xffn) & bit ? access : 0), 0);
  if (op === OP.access || op === OP.fault) stream.access[i] = flags;
  // Of fetches the frame was not recorded.
  if (op === OP.access && !(flags & Access.Fetch)) hash = hashFrame(hash, Number(second >> 28n));
  if (op === OP.fault) stream.value[i] = second >> 32n;
  if (op === OP.cr3) stream.value[i] = first;
  if (op === OP.invpcid) {
    stream.access[i] = Number(second & 0xffn);
    stream.value[i] = second >> 8n;
  }
  if (op === OP.edit) {
    stream.place[i] = Number(first);
    stream.value[i] = second;
  }
  if (op === OP.registers) {
    stream.value[i] = first;
    stream.place[i] = Number(second);
  }
  if ((i + 1) % HASHED === 0 || i + 1 === count) stream.hashes[Math.floor(i / HASHED)] = hash;
}
writeFileSync(output, packStream(stream));
