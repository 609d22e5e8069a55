/** Serves the built package, the fixtures and the test's own scripts to a browser, on this machine only. */
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize, sep } from "node:path";
import { transform } from "esbuild";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".wasm": "application/wasm",
};

/** The only folders that are served. */
const FOLDERS = ["dist", join("test", "fixtures"), join("test", "browser", "site"), "web", "examples"];

export interface SiteServer {
  readonly origin: string;
  /** Paths that were asked for and are not there. */
  readonly missing: readonly string[];
  close(): Promise<void>;
}

/** Serves the folders under `root`; `extra` are further files, by path. */
export async function serveSite(root: string, extra: ReadonlyMap<string, Uint8Array>): Promise<SiteServer> {
  const missing: string[] = [];
  const server = createServer(async (request, response) => {
    const path = new URL(request.url!, "http://localhost").pathname;
    try {
      const body = extra.get(path) ?? (await readSiteFile(root, path));
      response.writeHead(200, { "content-type": TYPES[extname(path)] ?? "application/octet-stream" }).end(body);
    } catch {
      missing.push(path);
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    missing,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function readSiteFile(root: string, path: string): Promise<Uint8Array | string> {
  const file = normalize(path).slice(1);
  if (!FOLDERS.some((folder) => file.startsWith(folder + sep))) throw new Error(`${path} is not served`);
  // The test's scripts are TypeScript; what is built is served as it is.
  if (!file.startsWith(join("test", "browser")) || extname(file) !== ".js") return readFile(join(root, file));
  const source = await readFile(join(root, file.replace(/\.js$/, ".ts")), "utf8");
  return (await transform(source, { loader: "ts", target: "es2022" })).code;
}
