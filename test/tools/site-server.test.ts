/** The site server gives away its folders alone. */
import { connect } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type SiteServer, serveSite } from "../../scripts/site-server.js";

let server: SiteServer;
beforeAll(async () => {
  server = await serveSite();
});
afterAll(() => server.close());

/** The status line that the server answers to these bytes with. */
function answerTo(request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect(Number(new URL(server.origin).port), "127.0.0.1", () => socket.write(request));
    socket.on("data", (chunk) => {
      answer += chunk;
    });
    socket.on("error", reject).on("close", () => resolve(answer.split("\r\n")[0]!));
  });
}

const get = (target: string) => answerTo(`GET ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);

it.each(["//", "http://[", "//[", "///", "http://localhost:99999999/", "\\\\[x"])(
  "survives a request for %s",
  async (target) => {
    expect(await get(target)).toMatch(/^HTTP\/1\.1 40[04] /);
    expect(await get("/dist/index.js")).toBe("HTTP/1.1 200 OK");
  },
);

it.each([
  ["no HTTP at all", "hello\r\n\r\n"],
  ["a broken header", "GET / HTTP/1.1\r\nHost localhost\r\n\r\n"],
  ["a NUL", "GET /dist/%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"],
])("survives %s", async (_, request) => {
  expect(await answerTo(request)).toMatch(/^HTTP\/1\.1 40[04] /);
  expect(await get("/dist/index.js")).toBe("HTTP/1.1 200 OK");
});

it("serves its folders alone", async () => {
  for (const target of [
    "/package.json",
    "/dist/../package.json",
    "/dist/%2e%2e/package.json",
    "/dist/..%2fpackage.json",
  ]) {
    expect(await get(target), target).toMatch(/ 404 /);
  }
});
