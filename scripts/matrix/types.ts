/** Versions of TypeScript: each compiles a user's script against the declarations, which are read in full. */
import type { Project, Row } from "./project.js";

const MAIN_ONLY = `
import { Access, loadSync, type Translation } from "x86-paging";
const memory = loadSync().createMemory({ slots: [{ gpa: 0, size: 4096 }] });
export const found: Translation = loadSync().createAddressSpace(memory, { cr0: 1, cr3: 0, cr4: 0, efer: 0 }).translate(0, Access.Read);
`;

/** With the library of ECMAScript only: neither the DOM nor Node's types. */
async function compile(project: Project, module: string, moduleResolution: string, file: string): Promise<void> {
  const compilerOptions = {
    ...{ module, moduleResolution, target: "ES2022", lib: ["ES2022"], types: [] },
    ...{ strict: true, exactOptionalPropertyTypes: true, noEmit: true, skipLibCheck: false },
  };
  project.write("tsconfig.json", JSON.stringify({ compilerOptions, files: [file] }));
  await project.command("tsc", ["-p", "tsconfig.json"]);
}

/** The last version that resolves as Node 10 did without a word. */
const LAST_NODE10 = 5;

export const TYPES_ROWS: readonly Row[] = ["5.0", "5.2", "5.4", "5.7", "5.9", "6", "7"].map((version) => ({
  group: "types",
  name: `TypeScript ${version}`,
  packages: { typescript: version },
  async run(project) {
    project.take("test/package/consumer/types.ts");
    await compile(project, "NodeNext", "NodeNext", "types.ts");
    await compile(project, "ESNext", "Bundler", "types.ts");
    // Resolvers that do not read "exports" find the main entry.
    if (Number.parseInt(version, 10) > LAST_NODE10) return undefined;
    project.write("main-only.ts", MAIN_ONLY);
    await compile(project, "ESNext", "Node10", "main-only.ts");
    return undefined;
  },
}));
