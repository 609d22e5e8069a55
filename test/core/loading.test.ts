/** What the core can be loaded from and live in, and what it says of anything else. */
import { runInNewContext } from "node:vm";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { load, loadSync, wasmBytes } from "../../src/core/index.js";
import { ConfigError, DisposedError, LoadError, OutOfMemoryError } from "../../src/errors.js";
import { VirtualMachine } from "../../src/mmu/index.js";

const memory = () => new WebAssembly.Memory({ initial: 8, maximum: 16 });
const REGION = { base: 0x10000, size: 0x20000 };
/** A module that is none of ours: it imports and exports nothing. */
const OTHER = new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);

describe("a region", () => {
  it.each([
    ["begins at no multiple of 16", { base: 0x10008, size: 0x1000 }, /multiples of 16/],
    ["ends at none", { base: 0x10000, size: 0x1008 }, /multiples of 16/],
    ["lies outside the memory", { base: 0x70000, size: 0x20000 }, /outside the memory/],
    ["is another core's", REGION, /another core has/],
    ["begins in another core's", { base: 0x20000, size: 0x20000 }, /another core has/],
    ["holds another core's", { base: 0, size: 0x80000 }, /another core has/],
  ])("that %s is refused", (_, region, message) => {
    const shared = memory();
    const core = loadSync(undefined, { memory: shared, region: REGION });
    expect(() => loadSync(undefined, { memory: shared, region })).toThrow(ConfigError);
    expect(() => loadSync(undefined, { memory: shared, region })).toThrow(message);
    core.dispose();
  });

  it("may lie beside another core's, and is free when its core is disposed of", () => {
    const shared = memory();
    const first = loadSync(undefined, { memory: shared, region: REGION });
    const second = loadSync(undefined, { memory: shared, region: { base: 0x30000, size: 0x10000 } });
    first.dispose();
    first.dispose();
    expect(() => first.createMemory({})).toThrow(DisposedError);
    expect(() => first.allocateBatch(1)).toThrow(DisposedError);
    const third = loadSync(undefined, { memory: shared, region: REGION });
    expect(() => loadSync(undefined, { memory: shared, region: REGION })).toThrow(/another core has/);
    for (const core of [second, third]) expect(core.createMemory({}).slots).toEqual([]);
  });

  it("is not taken where the core cannot be made in it", () => {
    const shared = memory();
    for (let again = 0; again < 2; again++) {
      expect(() => loadSync(undefined, { memory: shared, region: { base: 0x10000, size: 64 } })).toThrow(
        OutOfMemoryError,
      );
    }
    loadSync(undefined, { memory: shared, region: REGION });
  });
});

describe("the module", () => {
  it("may come from another realm, as bytes too", async () => {
    const bytes = wasmBytes();
    const foreign = runInNewContext("new WebAssembly.Module(bytes)", { bytes });
    expect(foreign instanceof WebAssembly.Module).toBe(false);
    const buffer = runInNewContext("new Uint8Array(bytes).buffer", { bytes });
    expect(buffer instanceof ArrayBuffer).toBe(false);
    for (const source of [foreign, buffer]) expect((await load(source)).createMemory({}).slots).toEqual([]);
    expect(loadSync(foreign).createMemory({}).slots).toEqual([]);
  });

  it("is the first argument: options in its place are told where they belong", async () => {
    const options = { memory: memory(), region: REGION };
    for (const attempt of [load(options as never), (async () => loadSync(options as never))()]) {
      await expect(attempt).rejects.toThrow(LoadError);
      await expect(attempt).rejects.toThrow(/options are the second argument, as in load\(undefined, /);
    }
  });

  it("that is another one is refused", async () => {
    expect(() => loadSync(OTHER)).toThrow(LoadError);
    await expect(load(OTHER)).rejects.toThrow(/not the core of this version/);
    await expect(load(new WebAssembly.Module(OTHER))).rejects.toThrow(LoadError);
  });
});

describe("a URL", () => {
  const root = new URL("../../build/core.wasm", import.meta.url);
  afterEach(() => vi.unstubAllGlobals());

  it("may be of a file, where the platform has files", async () => {
    for (const url of [root, root.href]) expect((await load(url)).createMemory({}).slots).toEqual([]);
    await expect(load(new URL("nothing.wasm", root))).rejects.toThrow(/ENOENT/);
  });

  it("is compiled while it arrives where the server calls it Wasm, and from all its bytes elsewhere", async () => {
    const streaming = vi.spyOn(WebAssembly, "compileStreaming");
    for (const [type, times] of [
      ["application/wasm", 1],
      ["application/wasm; charset=x", 0],
      ["application/octet-stream", 0],
    ] as const) {
      streaming.mockClear();
      const response = new Response(wasmBytes(), { headers: { "content-type": type } });
      vi.stubGlobal("fetch", async () => response);
      expect((await load("https://example.org/core.wasm")).createMemory({}).slots).toEqual([]);
      expect(streaming).toHaveBeenCalledTimes(times);
    }
    streaming.mockRestore();
  });
});

it("compiles its own copy once", async () => {
  loadSync();
  const compile = vi.spyOn(WebAssembly, "compile");
  const module = vi.spyOn(WebAssembly, "Module");
  const [one, other] = [loadSync(), await load()];
  expect(compile).not.toHaveBeenCalled();
  expect(module).not.toHaveBeenCalled();
  vi.restoreAllMocks();
  // They share code and nothing else.
  const memories = [one, other].map((core) => core.createMemory({ slots: [{ gpa: 0, size: 4096 }] }));
  memories[0]!.writeU64(0, 5n);
  expect(memories[1]!.readU64(0)).toBe(0n);
});

it("memory that was used before is zero when it is given out again", () => {
  const core = loadSync();
  const config = { slots: [{ gpa: 0, size: 1 << 20 }] };
  const first = core.createMemory(config);
  first.write(0, new Uint8Array(1 << 20).fill(0xff));
  first.dispose();
  const again = core.createMemory({ slots: [{ gpa: 0, size: 4 << 20 }] });
  expect(again.read(0, 4 << 20).every((byte) => byte === 0)).toBe(true);
});

describe("where Wasm is not allowed", () => {
  // What is compiled already can be used.
  let fresh: typeof import("../../src/core/index.js");
  beforeEach(async () => {
    vi.resetModules();
    fresh = await import("../../src/core/index.js");
  });
  afterEach(() => {
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
  });

  it.each([
    "WebAssembly.compile(): Wasm code generation disallowed by embedder",
    "WebAssembly.Module(): Compiling or instantiating WebAssembly module violates the following Content Security policy directive",
    "call to WebAssembly.compile() blocked by CSP",
  ])("it is said what helps: %s", async (message) => {
    function refuse(): never {
      throw new WebAssembly.CompileError(message);
    }
    vi.spyOn(WebAssembly, "compile").mockImplementation(async () => refuse());
    vi.spyOn(WebAssembly, "Module").mockImplementation(refuse);
    for (const attempt of [fresh.load(), (async () => fresh.loadSync())()]) {
      await expect(attempt).rejects.toMatchObject({
        name: "LoadError",
        message: expect.stringMatching(/x86-paging\/reference, which needs none/),
        cause: { message },
      });
    }
  });

  it("or that there is none", async () => {
    vi.stubGlobal("WebAssembly", undefined);
    await expect(fresh.load()).rejects.toThrow(/^there is no WebAssembly here .*x86-paging\/reference/);
    expect(() => fresh.loadSync()).toThrow(expect.objectContaining({ name: "LoadError" }));
  });

  it("bad bytes are still the compiler's to refuse", async () => {
    await expect(load(new Uint8Array(8))).rejects.toThrow(WebAssembly.CompileError);
    expect(() => loadSync(new Uint8Array(8))).toThrow(WebAssembly.CompileError);
  });
});

it("a shared memory is refused, with what is expected", () => {
  const shared = new WebAssembly.Memory({ initial: 8, maximum: 16, shared: true });
  expect(() => loadSync(undefined, { memory: shared, region: REGION })).toThrow(ConfigError);
  expect(() => loadSync(undefined, { memory: shared, region: REGION })).toThrow(
    /expected 32 bits, shared for x86-paging\/shared and else not/,
  );
});

it("what is out of memory says what gives some back", () => {
  const core = loadSync(undefined, { memory: memory(), region: REGION });
  expect(() => core.createMemory({ slots: [{ gpa: 0, size: 0x40000 }] })).toThrow(/dispose\(\) of memories, spaces/);
});

it("everything that is disposed of can be `using`", () => {
  const core = loadSync();
  const guest = core.createMemory({ slots: [{ gpa: 0, size: 0x1000 }] });
  const space = core.createAddressSpace(guest, { cr0: 1, cr3: 0, cr4: 0, efer: 0 });
  const buffer = core.allocateBatch(4);
  const vm = new VirtualMachine(core, { paging: "npt" } as never);
  for (const one of [vm, buffer, space, guest, core]) one[Symbol.dispose]();
  expect(() => space.translate(0)).toThrow(DisposedError);
  expect(() => guest.read(0, 1)).toThrow(DisposedError);
  expect(() => buffer.address).toThrow(ConfigError);
  expect(() => vm.createVcpu({ cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n })).toThrow(DisposedError);
  expect(() => core.createMemory({})).toThrow(DisposedError);
});
