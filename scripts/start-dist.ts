/** Starts dist anew, so that nothing of an earlier build is shipped, with the Wasm files in it. */
import { copyFileSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
rmSync(join(root, "dist"), { recursive: true, force: true });
mkdirSync(join(root, "dist"));
for (const file of ["core.wasm", "core.shared.wasm"]) copyFileSync(join(root, "build", file), join(root, "dist", file));
// TypeScript emits no declarations that it was given.
for (const name of ["core.d.wasm.ts", "core.shared.d.wasm.ts"])
  copyFileSync(join(root, "src", "core.d.wasm.ts"), join(root, "dist", name));
