/**
 * A worker for Cloudflare's workerd: POST a dump to /?gva=ffffffff81000000, get the walk as JSON. The export condition
 * `workerd` makes `x86-paging` import its Wasm as a module; with wrangler nothing has to be configured.
 */
import { Access, load } from "x86-paging";
import { openDumpAsync, registersFromDump } from "x86-paging/dump";

/** One core for all requests of an isolate. */
let loading;

const json = (value) => JSON.stringify(value, (_, one) => (typeof one === "bigint" ? `0x${one.toString(16)}` : one));

export default {
  async fetch(request) {
    const gva = new URL(request.url).searchParams.get("gva") ?? "";
    if (!/^[0-9a-f]{1,16}$/i.test(gva)) return new Response("expected ?gva= in hexadecimal\n", { status: 400 });
    loading ??= load();
    const core = await loading;
    let memory;
    try {
      const { dump, fetching } = await openDumpAsync(await request.arrayBuffer());
      memory = core.createMemory({ source: dump.tableSource });
      const registers = { ...(await fetching(() => registersFromDump(dump))), lenient: true };
      const space = await fetching(() => core.createAddressSpace(memory, registers));
      const walk = await fetching(() => space.walk(BigInt(`0x${gva}`), Access.Ac));
      return new Response(json(walk), { headers: { "content-type": "application/json" } });
    } catch (error) {
      // What the package throws on purpose has a code.
      return new Response(`${error.code ?? "error"}: ${error.message}\n`, { status: 422 });
    } finally {
      memory?.dispose();
    }
  },
};
