import { coreBatch, coreSingle, javaScriptBatch, nativeLoop, prepare, release } from "./candidates.js";
import { addresses, BATCH, build, type Pattern } from "./machine.js";
import { loadNative } from "./native.js";
import { compare } from "./rounds.js";

const native = loadNative();
if (typeof native === "string") throw new Error(native);
const which = process.argv[2] ?? "L1,L1c,L2,DRAM,F10";
const kernels = (process.argv[3] ?? "0").split(",").map(Number);
const patterns = (process.argv[4] ?? "random").split(",") as Pattern[];
const shapes: Record<string, [any, number]> = {
  L1: [{ tables: 4, regions: 4 }, 64 * BATCH],
  L1c: [{ tables: 4, regions: 1 }, 64 * BATCH],
  L2: [{ tables: 128, regions: 4 }, 256 * BATCH],
  DRAM: [{ tables: 65536, regions: 2 }, 1024 * BATCH],
  F1: [{ tables: 4, regions: 4, absent: 0.01 }, 64 * BATCH],
  F10: [{ tables: 4, regions: 4, absent: 0.1 }, 64 * BATCH],
  F100: [{ tables: 4, regions: 4, absent: 1 }, 64 * BATCH],
};
for (const name of which.split(","))
  for (const pattern of patterns) {
    const [shape, count] = shapes[name]!;
    const machine = build(shape);
    const load = prepare(machine, addresses(machine, pattern, count), 4);
    // check
    const { exports, linear } = machine.core.internals();
    const cs = [
      nativeLoop(native, load),
      ...kernels.map((k) => coreBatch(load, `batch k${k}`, k)),
      coreSingle(load),
      javaScriptBatch(load),
    ];
    for (let b = 0; b < 8; b++) {
      native.batch(load.input + b * BATCH * 8, load.output, BATCH, 4);
      const want = linear.u64.slice(load.output / 8, load.output / 8 + BATCH);
      for (const k of kernels) {
        exports.translateBatch(machine.space.pointer, load.input + b * BATCH * 8, load.output, BATCH, 4, k);
        const got = linear.u64.slice(load.output / 8, load.output / 8 + BATCH);
        want.forEach((w, i) => {
          if (w !== got[i]) throw new Error(`${name} k${k} ${i}: ${w.toString(16)} ${got[i]!.toString(16)}`);
        });
      }
    }
    const out = compare(cs, { rounds: 11, time: 10 });
    console.log(
      `${name} ${pattern}: ` +
        out.map((o) => `${o.name} ${o.nanoseconds.toFixed(2)}ns x${o.ratio.toFixed(2)}`).join(" | "),
    );
    release(load);
    machine.dispose();
  }
