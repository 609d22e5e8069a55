/** A small file server for the browser tests and examples; on this machine only. */
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, extname, join, normalize, sep } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");

/** The only folders of the repository that are served. */
const FOLDERS = ["dist", "examples", join("test", "fixtures")];

const MOST_MISSING = 100;

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".wasm": "application/wasm",
};

export interface SiteServer {
  /** E.g. `http://127.0.0.1:8080`. */
  readonly origin: string;
  /** Paths that were asked for and are not there; no more than the first hundred. */
  readonly missing: readonly string[];
  close(): Promise<void>;
}

export interface SiteOptions {
  /** Default 0: any that is free. */
  readonly port?: number;
  /** Files besides those of the folders, by path; undefined for what it does not have. */
  readonly extra?: (path: string) => Promise<Uint8Array | string | undefined>;
}

/** Serves the folders under their own names; throws where the port is taken. */
export async function serveSite({ port = 0, extra }: SiteOptions = {}): Promise<SiteServer> {
  const missing: string[] = [];
  const server = createServer(async (request, response) => {
    const path = pathOf(request.url);
    if (path === undefined) {
      response.writeHead(400).end();
      return;
    }
    const file = path.endsWith("/") ? `${path}index.html` : path;
    try {
      const body = (await extra?.(file)) ?? (await readSiteFile(file));
      response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" }).end(body);
    } catch {
      if (missing.length < MOST_MISSING) missing.push(path);
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject).listen(port, "127.0.0.1", resolve);
  });
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

/** The path that a request names; undefined where it is none. */
function pathOf(target: string | undefined): string | undefined {
  const origin = "http://localhost";
  return target !== undefined && URL.canParse(target, origin) ? new URL(target, origin).pathname : undefined;
}

async function readSiteFile(path: string): Promise<Uint8Array> {
  const file = normalize(path).slice(1);
  if (!FOLDERS.some((folder) => file.startsWith(folder + sep))) throw new Error(`${path} is not served`);
  return readFile(join(ROOT, file));
}
