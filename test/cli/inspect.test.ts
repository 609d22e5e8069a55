/** The inspector's server gives away its site and the named files alone, to this machine alone. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { rangeOf } from "../../src/cli/inspect/named-files.js";
import { type InspectorServer, serveInspector } from "../../src/cli/inspect/server.js";
import { run } from "./run-main.js";

const NAME = `a "quoted" </head><script>name`;
const CONTENT = Buffer.from("0123456789");

let folder: string;
let server: InspectorServer;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "inspect-"));
  writeFileSync(join(folder, NAME.replace("/", "∕")), CONTENT);
  writeFileSync(join(folder, "empty"), "");
  writeFileSync(join(folder, "secret"), "secret");
  server = await serveInspector({ port: 0, files: [join(folder, NAME.replace("/", "∕")), join(folder, "empty")] });
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
}

/** `path` goes out as it stands. */
function ask(path: string, headers: Record<string, string> = {}, method = "GET"): Promise<Answer> {
  const { port } = new URL(server.url);
  return new Promise((resolve, reject) => {
    const asked = request({ host: "127.0.0.1", port, path, headers, method }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text) => {
        body += text;
      });
      response.on("end", () => resolve({ status: response.statusCode!, headers: response.headers, body }));
    });
    asked.on("error", reject).end();
  });
}

describe("the inspector's server", () => {
  it("serves the site, and tells the page which files there are", async () => {
    const { status, body, headers } = await ask("/");
    expect(status).toBe(200);
    const [, content] = /<meta name="served-files" content="([^"]*)"/.exec(body)!;
    const text = content!.replace(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)));
    expect(JSON.parse(text)).toEqual([
      { name: NAME.replace("/", "∕"), size: 10, url: "files/0" },
      { name: "empty", size: 0, url: "files/1" },
    ]);
    expect(body.match(/<\/head>/g)).toHaveLength(1);
    expect(headers).toMatchObject({
      "content-security-policy": "frame-ancestors 'none'",
      "cross-origin-resource-policy": "same-origin",
      "x-content-type-options": "nosniff",
    });
    const script = /src="\.(\/assets\/[^"]*\.js)"/.exec(body)![1]!;
    expect((await ask(script)).headers["content-type"]).toBe("text/javascript; charset=utf-8");
  });

  it.each([
    ["evil.example", 403],
    ["127.0.0.1", 403],
    ["127.0.0.1:1", 403],
  ])("refuses another Host: %s", async (host, status) => {
    expect((await ask("/", { host })).status).toBe(status);
    expect((await ask("/files/0", { host })).status).toBe(status);
  });

  it("answers localhost", async () => {
    expect((await ask("/", { host: `localhost:${new URL(server.url).port}` })).status).toBe(200);
  });

  it.each([
    "/files/2",
    "/files/-1",
    "/files/00x",
    "/files/../secret",
    "/secret",
    "/../secret",
    "/..%2fpackage.json",
    "/%2e%2e/package.json",
    "/assets/",
    "/assets",
    "//",
    "http://127.0.0.1/",
  ])("does not serve %s", async (path) => {
    expect((await ask(path)).status).toBe(404);
  });

  it("changes nothing", async () => {
    for (const method of ["POST", "PUT", "DELETE"]) expect((await ask("/", {}, method)).status).toBe(405);
    expect(await ask("/files/0", {}, "HEAD")).toMatchObject({ status: 200, body: "" });
  });

  it("gives the ranges that are asked for, and no more", async () => {
    expect(await ask("/files/0", { range: "bytes=2-4" })).toMatchObject({
      status: 206,
      body: "234",
      headers: { "content-range": "bytes 2-4/10", "content-length": "3" },
    });
    expect(await ask("/files/0")).toMatchObject({ status: 200, body: "0123456789" });
    expect(await ask("/files/0", { range: "bytes=10-" })).toMatchObject({
      status: 416,
      headers: { "content-range": "bytes */10" },
    });
    expect(await ask("/files/1")).toMatchObject({ status: 200, body: "" });
  });
});

describe("a Range header", () => {
  it.each([
    ["bytes=0-0", 10, { first: 0, last: 0 }],
    ["bytes=3-", 10, { first: 3, last: 9 }],
    ["bytes=-3", 10, { first: 7, last: 9 }],
    ["bytes=-30", 10, { first: 0, last: 9 }],
    ["bytes=5-100", 10, { first: 5, last: 9 }],
    ["bytes=5-4", 10, undefined],
    ["bytes=0-1,3-4", 10, undefined],
    ["bytes=-", 10, undefined],
    ["lines=1-2", 10, undefined],
    [undefined, 10, undefined],
    ["bytes=10-", 10, "unsatisfiable"],
    ["bytes=-0", 10, "unsatisfiable"],
    ["bytes=-1", 0, "unsatisfiable"],
  ] as const)("%s of %i bytes", (header, size, range) => {
    expect(rangeOf(header, size)).toEqual(range);
  });
});

describe("x86-paging inspect", () => {
  it("prints the address, and ends when it is interrupted", async () => {
    const { code, stdout, stderr } = await run(["inspect", join(folder, "secret")]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/\n$/);
    expect(stderr).toContain("Ctrl-C");
    await expect(fetch(stdout.trim())).rejects.toThrow();
  });

  it.each([
    [["missing"], /missing: no such file/i],
    [["."], /expected a file/],
    [["--port", "70000"], /--port/],
  ])("refuses %j", async (args, message) => {
    const { code, stderr } = await run(["inspect", ...args]);
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });

  it("says that a port is taken", async () => {
    const { stderr } = await run(["inspect", "--port", new URL(server.url).port]);
    expect(stderr).toMatch(/port \d+: expected one that is free/);
  });
});
