/** Bundlers with their defaults: each builds a page for browsers, which then runs in one. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { launchChromium } from "../../test/browser/chromium.js";
import { serveSite } from "../site-server.js";
import type { Project, Row } from "./project.js";
import { DUMP, USE } from "./use.js";

const MAIN = `
import { use } from "./use.js";
const name = "./dump.gz";
fetch(name).then((answer) => answer.arrayBuffer()).then((bytes) => use(new Uint8Array(bytes))).then(
  (found) => { document.title = found; },
  (error) => { document.title = "failed: " + error; },
);
`;
const page = (script: string, type = "module") =>
  `<!doctype html><html lang="en"><head><meta charset="utf-8"><title></title><link rel="icon" href="data:,"></head>
<body><script type="${type}" src="${script}"></script></body></html>\n`;

interface Bundler {
  readonly name: string;
  readonly packages: Readonly<Record<string, string>>;
  readonly scripts?: boolean;
  /** Writes what it wants beside main.js, and builds; gives the folder to serve. */
  build(project: Project): Promise<string>;
}

const BUNDLERS: readonly Bundler[] = [
  {
    name: "Vite",
    packages: { vite: "8" },
    async build(project) {
      project.write("index.html", page("./main.js"));
      await project.command("vite", ["build", "--outDir", "out"]);
      return "out";
    },
  },
  {
    name: "webpack",
    packages: { webpack: "5", "webpack-cli": "7" },
    async build(project) {
      project.write("out/index.html", page("main.js", "text/javascript"));
      await project.command("webpack", ["--mode", "production", "--entry", "./main.js", "-o", "out"]);
      return "out";
    },
  },
  {
    name: "Rollup",
    packages: { rollup: "4", "@rollup/plugin-node-resolve": "16" },
    async build(project) {
      project.write("out/index.html", page("main.js"));
      await project.command("rollup", ["main.js", "-p", "node-resolve", "-f", "es", "-d", "out"]);
      return "out";
    },
  },
  {
    name: "Rspack",
    packages: { "@rspack/core": "2", "@rspack/cli": "2" },
    async build(project) {
      project.write("out/index.html", page("main.js", "text/javascript"));
      project.write(
        "rspack.config.mjs",
        'export default { mode: "production", entry: "./main.js", output: { path: import.meta.dirname + "/out" } };\n',
      );
      await project.command("rspack", ["build"]);
      return "out";
    },
  },
  {
    name: "esbuild",
    packages: { esbuild: "0.28" },
    scripts: true,
    async build(project) {
      project.write("out/index.html", page("main.js"));
      await project.command("esbuild", ["main.js", "--bundle", "--splitting", "--format=esm", "--outdir=out"]);
      return "out";
    },
  },
  {
    // It reads "exports" only where it is told to; without, it finds the main entry alone.
    name: "Parcel (packageExports)",
    packages: { parcel: "2" },
    scripts: true,
    async build(project) {
      const manifest = JSON.parse(project.read("package.json").toString());
      project.write(
        "package.json",
        JSON.stringify({ ...manifest, "@parcel/resolver-default": { packageExports: true } }),
      );
      project.write("index.html", page("./main.js"));
      await project.command("parcel", ["build", "index.html", "--dist-dir", "out", "--no-source-maps", "--no-cache"]);
      return "out";
    },
  },
];

/** Opens the page and waits for what its script found. */
async function show(folder: string, dump: string): Promise<string> {
  const extra = async (path: string) => readFile(path === "/dump.gz" ? dump : join(folder, path));
  const server = await serveSite({ extra });
  const browser = await launchChromium();
  try {
    const tab = await browser.newPage();
    const complaints: string[] = [];
    tab.on("pageerror", (error) => complaints.push(String(error)));
    await tab.goto(`${server.origin}/index.html`);
    await tab.waitForFunction("document.title !== ''", undefined, { timeout: 30_000 }).catch(() => {
      throw new Error(`no answer: ${[...complaints, ...server.missing].join(", ")}`);
    });
    return await tab.title();
  } finally {
    await browser.close();
    await server.close();
  }
}

/** Parcel with its defaults reads no "exports": the main entry is what it finds. */
const MAIN_ONLY = `
import { load } from "x86-paging";
load().then((core) => { document.title = "slots " + core.createMemory({ slots: [{ gpa: 0, size: 4096 }] }).slots.length; });
`;

const PARCEL: Row = {
  group: "bundler",
  name: "Parcel, main entry only",
  packages: { parcel: "2" },
  scripts: true,
  async run(project) {
    project.write("main.js", MAIN_ONLY);
    project.write("index.html", page("./main.js"));
    await project.command("parcel", ["build", "index.html", "--dist-dir", "out", "--no-source-maps", "--no-cache"]);
    const found = await show(join(project.path, "out"), "");
    if (found !== "slots 1") throw new Error(`expected slots 1, found ${found}`);
    return undefined;
  },
};

const WITH_EVERYTHING: readonly Row[] = BUNDLERS.map(({ build, ...row }) => ({
  ...row,
  group: "bundler",
  async run(project) {
    project.take(DUMP, "dump.gz");
    project.write("use.js", USE);
    project.write("main.js", MAIN);
    return show(join(project.path, await build(project)), join(project.path, "dump.gz"));
  },
}));

export const BUNDLER_ROWS: readonly Row[] = [...WITH_EVERYTHING, PARCEL];
