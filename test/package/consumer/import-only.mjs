// Imports the modules named on the command line in a process where nothing that is work is allowed.
import { syncBuiltinESMExports } from "node:module";

const done = [];
const refuse = (owner, names) => {
  for (const name of names) {
    owner[name] = function refused() {
      done.push(name);
      throw new Error(`${name} while modules are imported`);
    };
  }
};

const modules = process.argv.slice(2);
// Loading an ES module reads its file below these functions.
refuse((await import("node:fs")).default, ["openSync", "createReadStream", "statSync"]);
syncBuiltinESMExports();
refuse(globalThis, ["fetch", "atob", "setTimeout", "setInterval", "queueMicrotask"]);
refuse(WebAssembly, [
  "Module",
  "Instance",
  "Memory",
  "compile",
  "compileStreaming",
  "instantiate",
  "instantiateStreaming",
  "validate",
]);
const globals = Object.keys(globalThis).length;
for (const module of modules) await import(module);
if (Object.keys(globalThis).length !== globals) done.push("globals");
console.log(JSON.stringify({ imported: modules.length, done }));
