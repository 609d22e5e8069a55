/** Serves the inspector, and the files that were named, to this machine alone. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { type NamedFile, openNamedFiles, rangeOf } from "./named-files.js";

/** Where the build puts the site, seen from dist/cli/inspect and from src/cli/inspect. */
export const SITE = fileURLToPath(new URL("../../../dist/web", import.meta.url));

const HOST = "127.0.0.1";
/** Bytes of a file that are read at once. */
const PIECE = 2 ** 20;

/** A page of another site that has its name resolved to this machine says so in its requests. */
const isOurs = (host: string | undefined, port: number): boolean =>
  [HOST, "localhost"].some((name) => host === `${name}:${port}` || (port === 80 && host === name));

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".wasm": "application/wasm",
  ".svg": "image/svg+xml",
  ".json": "application/json",
};

/** What the page's own policy cannot say, and what keeps others from reading what is served. */
const HEADERS = {
  "content-security-policy": "frame-ancestors 'none'",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "cache-control": "no-store",
} as const;

export interface InspectorServer {
  /** E.g. `http://127.0.0.1:8080/`. */
  readonly url: string;
  close(): Promise<void>;
}

export interface InspectorOptions {
  /** 0: any that is free. */
  readonly port: number;
  /** Paths of the files that the page opens. */
  readonly files: readonly string[];
  /** The site's folder. Default: the package's. */
  readonly site?: string;
}

/** Serves until it is closed. Throws where a file cannot be opened, the site is not built, or the port is taken. */
export async function serveInspector({ port, files, site = SITE }: InspectorOptions): Promise<InspectorServer> {
  if (!existsSync(join(site, "index.html")))
    throw new Error(`${site}: expected the inspector, which npm run build makes`);
  const served = new Map(
    readdirSync(site, { recursive: true, encoding: "utf8" })
      .map((name) => [`/${name.split(sep).join("/")}`, join(site, name)] as const)
      .filter(([, path]) => statSync(path).isFile()),
  );
  const named = await openNamedFiles(files);
  const close = () => Promise.all(named.map(({ handle }) => handle.close()));
  const server = createServer((request, response) => {
    const own = (server.address() as AddressInfo | null)?.port ?? 0;
    answer(request, response, own, served, named).catch(() => response.destroy());
  });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject).listen(port, HOST, resolve);
    });
  } catch (error) {
    await close();
    throw error;
  }
  return {
    url: `http://${HOST}:${(server.address() as AddressInfo).port}/`,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
      await close();
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  port: number,
  served: ReadonlyMap<string, string>,
  named: readonly NamedFile[],
): Promise<void> {
  const refuse = (status: number, more: Readonly<Record<string, string>> = {}) =>
    void response.writeHead(status, { ...HEADERS, ...more }).end();
  if (!isOurs(request.headers.host, port)) return refuse(403);
  if (request.method !== "GET" && request.method !== "HEAD") return refuse(405, { allow: "GET, HEAD" });
  const path = pathOf(request.url);
  const index = /^\/files\/(\d+)$/.exec(path ?? "")?.[1];
  const file = index === undefined ? undefined : named[Number(index)];
  if (file !== undefined) return sendFile(request, response, file);
  const place = path === undefined ? undefined : served.get(path === "/" ? "/index.html" : path);
  if (place === undefined) return refuse(404);
  const body =
    path === "/" || path === "/index.html" ? withFiles(await readFile(place, "utf8"), named) : await readFile(place);
  response.writeHead(200, {
    ...HEADERS,
    "content-type": TYPES[extname(place)] ?? "application/octet-stream",
    "content-length": Buffer.byteLength(body),
  });
  response.end(request.method === "HEAD" ? undefined : body);
}

/** The path that a request names, as it stands there: `..` and escapes name nothing that is served. */
function pathOf(target: string | undefined): string | undefined {
  return target?.startsWith("/") ? target.split("?", 1)[0] : undefined;
}

/** The page finds what it is to open in its own head, and asks nobody on a site that serves no files. */
function withFiles(html: string, named: readonly NamedFile[]): string {
  const files = named.map(({ name, size }, index) => ({ name, size, url: `files/${index}` }));
  const content = JSON.stringify(files).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
  return html.replace("</head>", () => `  <meta name="served-files" content="${content}" />\n  </head>`);
}

/** All of a file, or the range that was asked for. */
async function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  { handle, size }: NamedFile,
): Promise<void> {
  const range = rangeOf(request.headers.range, size);
  if (range === "unsatisfiable") {
    response.writeHead(416, { ...HEADERS, "content-range": `bytes */${size}` }).end();
    return;
  }
  const { first, last } = range ?? { first: 0, last: size - 1 };
  response.writeHead(range === undefined ? 200 : 206, {
    ...HEADERS,
    "content-type": "application/octet-stream",
    "content-length": last - first + 1,
    "accept-ranges": "bytes",
    ...(range === undefined ? {} : { "content-range": `bytes ${first}-${last}/${size}` }),
  });
  if (request.method === "HEAD" || size === 0) {
    response.end();
    return;
  }
  // A stream over the handle would close it when it is destroyed; others read by it, too.
  for (let at = first; at <= last && !response.destroyed; ) {
    const piece = Buffer.allocUnsafe(Math.min(PIECE, last - at + 1));
    const { bytesRead } = await handle.read(piece, 0, piece.length, at);
    if (bytesRead === 0) throw new Error("the file has become shorter");
    at += bytesRead;
    if (!response.write(piece.subarray(0, bytesRead))) await drained(response);
  }
  response.end();
}

/** Until more can be written, or nobody reads it any more. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off("drain", done).off("close", done);
      resolve();
    };
    response.on("drain", done).on("close", done);
    if (response.destroyed) done();
  });
}
