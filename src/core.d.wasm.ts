/** The package's Wasm where the platform imports it as a compiled module: workerd, `import source`, bundlers' module imports. */
import type { WasmModule } from "./platform.js";

declare const module: WasmModule;
export default module;
