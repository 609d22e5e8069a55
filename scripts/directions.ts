/**
 * Who may import whom. `npm run lint` (check-directions.ts) reads every file and holds it to this list.
 *
 *     assembly    src/core <- src/mmu <- src/recording <- src/cli, web
 *                 src/abi and the ground are below all; the reference, the dump readers and the tools' own
 *                 modules stand beside the core and import neither it nor each other, where no line says so
 *
 * A place is a folder without the folders in it, or a file; a file belongs to the closest place. Every folder with
 * sources has one. `import type` counts as an import: who needs another's types has to be read and moved with it.
 */
import type { Place } from "./directions/judge.js";

/** What names no rule of paging: types, errors, checks of arguments, bit tables. */
const GROUND = [
  "src/abi",
  "src/api.ts",
  "src/checks.ts",
  "src/errors.ts",
  "src/json-text.ts",
  "src/json-value.ts",
  "src/options.ts",
  "src/platform.ts",
];
const HOST = [...GROUND, "src/runs.ts", "src/role", "src/spte", "src/registers", "src/core"];
/** The core below what a user gets. */
const CORE = ["access", "attributes", "checks", "linear", "memory", "records", "space", "wasm"].map(
  (name) => `src/core/${name}`,
);
/** What the MMU may know of the core: its own part of it, and the records' accessors. */
const MMU_CORE = [...GROUND, "src/role", "src/spte", "src/registers", "src/core/mmu", "src/core/records"];

/** The MMU below what a user gets. */
const MMU = [
  "changes",
  "config",
  "context",
  "faults",
  "inspect",
  "machine",
  "memory",
  "pages",
  "processor",
  "roots",
  "trace",
].map((name) => `src/mmu/${name}`);

export const PLACES: readonly Place[] = [
  // The core: entries and operations above, the bit tables below.
  { place: "assembly", mayImport: ["assembly/*"] },
  { place: "assembly/abi", mayImport: [] },
  { place: "assembly/memory", mayImport: ["assembly/abi"] },
  { place: "assembly/spte", mayImport: ["assembly/abi"] },
  { place: "assembly/walk", mayImport: ["assembly/abi", "assembly/memory"] },
  { place: "assembly/walk/tlb", mayImport: ["assembly/abi", "assembly/memory", "assembly/walk"] },
  { place: "assembly/walk/space", mayImport: ["assembly/abi", "assembly/walk", "assembly/walk/tlb"] },
  {
    place: "assembly/walk/fast",
    mayImport: ["assembly/abi", "assembly/memory", "assembly/walk", "assembly/walk/tlb", "assembly/walk/space"],
  },
  { place: "assembly/walk/list", mayImport: ["assembly/abi", "assembly/memory", "assembly/walk"] },
  { place: "assembly/pages", mayImport: ["assembly/abi", "assembly/memory", "assembly/spte"] },
  { place: "assembly/guest", mayImport: ["assembly/abi", "assembly/memory", "assembly/walk", "assembly/pages"] },
  { place: "assembly/tdp", mayImport: ["assembly/abi", "assembly/memory", "assembly/spte", "assembly/pages"] },
  {
    place: "assembly/shadow",
    mayImport: [
      ...["assembly/abi", "assembly/memory", "assembly/spte", "assembly/walk"],
      ...["assembly/pages", "assembly/guest", "assembly/tdp"],
    ],
  },
  {
    place: "assembly/fault",
    mayImport: [
      ...["assembly/abi", "assembly/memory", "assembly/spte", "assembly/walk"],
      ...["assembly/pages", "assembly/guest", "assembly/tdp", "assembly/shadow"],
    ],
  },
  {
    place: "assembly/operations",
    mayImport: [
      ...[
        "assembly/abi",
        "assembly/memory",
        "assembly/spte",
        "assembly/walk/space",
        "assembly/pages",
        "assembly/guest",
      ],
      ...["assembly/tdp", "assembly/shadow", "assembly/fault"],
    ],
  },

  // The ground.
  { place: "src/abi", mayImport: [] },
  { place: "src/api.ts", mayImport: [] },
  { place: "src/json-text.ts", mayImport: [] },
  { place: "src/json-value.ts", mayImport: [] },
  { place: "src/platform.ts", mayImport: [] },
  { place: "src/core.d.wasm.ts", mayImport: ["src/platform.ts"] },
  { place: "src/errors.ts", mayImport: ["src/api.ts"] },
  { place: "src/checks.ts", mayImport: ["src/api.ts", "src/errors.ts"] },
  { place: "src/options.ts", mayImport: ["src/api.ts", "src/checks.ts", "src/errors.ts"] },
  { place: "src/runs.ts", mayImport: ["src/api.ts"] },
  { place: "src/registers", mayImport: GROUND },
  { place: "src/role", mayImport: GROUND },
  { place: "src/spte", mayImport: GROUND },

  // The reference shares with the core what is not a rule; the masks are a type.
  { place: "src/reference", mayImport: [...GROUND, "src/spte/masks.ts"] },

  // The wall around the Wasm, and the package's main entry: only what is in src/core knows exports, views and pointers.
  { place: "src/core/checks", mayImport: GROUND },
  { place: "src/core/attributes", mayImport: [...GROUND, "src/core/checks"] },
  { place: "src/core/wasm", mayImport: GROUND },
  { place: "src/core/linear", mayImport: GROUND },
  { place: "src/core/records", mayImport: ["src/core/linear"] },
  {
    place: "src/core/memory",
    mayImport: [...GROUND, "src/core/checks", "src/core/wasm", "src/core/linear", "src/core/records"],
  },
  {
    place: "src/core/access",
    mayImport: [...GROUND, "src/core/checks", "src/core/linear", "src/core/memory"],
  },
  {
    place: "src/core/space",
    mayImport: [
      ...[
        ...GROUND,
        "src/runs.ts",
        "src/registers",
        "src/core/attributes",
        "src/core/checks",
        "src/core/wasm",
        "src/core/linear",
        "src/core/records",
      ],
      "src/core/memory",
      "src/core/access",
    ],
  },
  {
    place: "src/core/mmu",
    mayImport: [...GROUND, "src/role", "src/core/wasm", "src/core/linear", "src/core/records"],
  },
  {
    place: "src/core/mmu/state",
    mayImport: [...GROUND, "src/role", "src/state/format", "src/core/linear", "src/core/records", "src/core/mmu"],
  },
  { place: "src/core", mayImport: [...GROUND, ...CORE] },
  { place: "src/index.ts", mayImport: [...GROUND, "src/runs.ts", "src/core"] },
  { place: "src/module.ts", mayImport: [...GROUND, "src/runs.ts", "src/core"] },
  { place: "src/workerd.ts", mayImport: [...GROUND, "src/runs.ts", "src/core", "src/core.d.wasm.ts"] },

  // Saved states: their form below, what is in them beside what has it.
  { place: "src/state/format", mayImport: [...GROUND, "src/core/records"] },
  {
    place: "src/core/state",
    mayImport: [...GROUND, "src/registers", "src/state/format", "src/core", ...CORE],
  },
  { place: "src/state", mayImport: [...GROUND, "src/state/format", "src/core/state", "src/mmu/state"] },

  // The MMU: plain data below, operations above, the facades on top.
  { place: "src/mmu/config", mayImport: MMU_CORE },
  { place: "src/mmu/memory", mayImport: [...MMU_CORE, "src/mmu/config"] },
  { place: "src/mmu/trace", mayImport: [...MMU_CORE, "src/mmu/config", "src/mmu/memory"] },
  { place: "src/mmu/pages", mayImport: [...MMU_CORE, "src/mmu/config", "src/mmu/memory"] },
  { place: "src/mmu/context", mayImport: [...MMU_CORE, "src/mmu/config", "src/mmu/memory"] },
  {
    place: "src/mmu/machine",
    mayImport: [
      ...[...MMU_CORE, "src/core", "src/mmu/config", "src/mmu/memory", "src/mmu/trace", "src/mmu/pages"],
      "src/mmu/context",
    ],
  },
  {
    place: "src/mmu/roots",
    mayImport: [...MMU_CORE, "src/mmu/config", "src/mmu/memory", "src/mmu/pages", "src/mmu/context", "src/mmu/machine"],
  },
  {
    place: "src/mmu/processor",
    mayImport: [...MMU_CORE, "src/mmu/config", "src/mmu/memory", "src/mmu/context", "src/mmu/machine", "src/mmu/roots"],
  },
  {
    place: "src/mmu/faults",
    mayImport: [
      ...[...MMU_CORE, "src/mmu/config", "src/mmu/memory", "src/mmu/pages", "src/mmu/context", "src/mmu/machine"],
      ...["src/mmu/roots", "src/mmu/processor"],
    ],
  },
  {
    place: "src/mmu/changes",
    mayImport: [
      ...[...MMU_CORE, "src/mmu/config", "src/mmu/memory", "src/mmu/pages", "src/mmu/context", "src/mmu/machine"],
      ...["src/mmu/roots", "src/mmu/processor"],
    ],
  },
  {
    place: "src/mmu/inspect",
    mayImport: [
      ...[...MMU_CORE, "src/mmu/config", "src/mmu/memory", "src/mmu/pages", "src/mmu/context", "src/mmu/machine"],
      "src/mmu/roots",
    ],
  },
  { place: "src/mmu", mayImport: [...MMU_CORE, "src/core", ...MMU] },
  {
    place: "src/mmu/state",
    mayImport: [...MMU_CORE, "src/core", "src/core/mmu/state", "src/state/format", "src/mmu", ...MMU],
  },

  // Readers.
  { place: "src/dump/bytes", mayImport: GROUND },
  { place: "src/dump/codec", mayImport: [] },
  { place: "src/dump/memory", mayImport: [...GROUND, "src/dump/bytes"] },
  { place: "src/dump/formats", mayImport: [...GROUND, "src/dump/bytes", "src/dump/codec", "src/dump/memory"] },
  { place: "src/dump/packed", mayImport: [...GROUND, "src/dump/bytes", "src/dump/codec", "src/dump/formats"] },
  { place: "src/dump/tables", mayImport: [...GROUND, "src/dump/memory"] },
  { place: "src/dump/linux", mayImport: [...GROUND, "src/dump/memory", "src/dump/tables"] },
  { place: "src/dump/search", mayImport: [...GROUND, "src/dump/memory"] },
  {
    place: "src/dump/write",
    mayImport: [
      ...[...GROUND, "src/dump/bytes", "src/dump/dump.ts", "src/dump/formats", "src/dump/memory"],
      "src/dump/tables",
    ],
  },
  { place: "src/dump/dump.ts", mayImport: [...GROUND, "src/dump/formats", "src/dump/memory"] },
  { place: "src/dump", mayImport: [...GROUND, "src/dump/*"] },
  { place: "src/trace/events", mayImport: [...GROUND, "src/role"] },
  { place: "src/trace/text", mayImport: [...GROUND, "src/trace/events"] },
  { place: "src/trace/input", mayImport: [...GROUND, "src/dump/codec", "src/dump/packed", "src/trace/error.ts"] },
  {
    place: "src/trace/dat",
    mayImport: [...GROUND, "src/dump/codec", "src/trace/error.ts", "src/trace/events", "src/trace/input"],
  },
  { place: "src/trace/error.ts", mayImport: GROUND },
  { place: "src/trace/model", mayImport: [...GROUND, "src/trace/events"] },
  {
    place: "src/trace/findings",
    mayImport: [...GROUND, "src/role", "src/spte", "src/trace/events", "src/trace/model"],
  },
  { place: "src/trace", mayImport: [...GROUND, "src/role", "src/spte", "src/dump/bytes", "src/trace/*"] },
  {
    place: "src/recording/format",
    mayImport: [...GROUND, "src/role", "src/spte", "src/dump/codec", "src/dump/packed"],
  },
  { place: "src/recording/world", mayImport: [...HOST, "src/recording/format"] },
  { place: "src/recording/compare", mayImport: [...HOST, "src/recording/format", "src/recording/world"] },
  {
    place: "src/recording/diff",
    mayImport: [...HOST, "src/recording/format", "src/recording/world", "src/recording/compare"],
  },
  {
    place: "src/recording/replay",
    mayImport: [...HOST, ...["src/mmu/*", "src/recording/format", "src/recording/world", "src/recording/compare"]],
  },
  {
    place: "src/recording/walks",
    mayImport: [...HOST, "src/recording/format", "src/recording/world", "src/recording/replay"],
  },
  {
    place: "src/recording/report",
    mayImport: [
      ...HOST,
      ...["src/recording/format", "src/recording/world", "src/recording/compare", "src/recording/replay"],
    ],
  },
  { place: "src/recording", mayImport: [...HOST, "src/mmu/*", "src/recording/*"] },

  // Tools' modules and the tools.
  { place: "src/decode", mayImport: GROUND },
  { place: "src/maps", mayImport: [...GROUND, "src/runs.ts", "src/decode"] },
  { place: "src/explain", mayImport: [...GROUND, "src/decode", "src/reference"] },
  { place: "src/conform", mayImport: GROUND },
  { place: "src/fuzz", mayImport: GROUND },
  {
    place: "src/cli",
    mayImport: [
      ...[...HOST, "src/decode", "src/dump", "src/explain", "src/fuzz", "src/maps", "src/mmu/*", "src/recording/*"],
      "src/reference",
      "src/trace",
    ],
  },
  { place: "src/cli/inspect", mayImport: [] },
  {
    place: "src/cli/commands",
    mayImport: [
      ...[
        ...HOST,
        "src/cli",
        "src/cli/inspect",
        "src/conform",
        "src/decode",
        "src/dump",
        "src/explain",
        "src/fuzz",
        "src/maps",
        "src/mmu/*",
      ],
      "src/recording/*",
      "src/reference",
      "src/trace",
    ],
  },
  { place: "src/cli/main.ts", mayImport: ["src/cli", "src/cli/commands", ...GROUND] },
  { place: "src/cli/bin.ts", mayImport: ["src/cli", "src/cli/main.ts"] },

  // The inspector: it has the package by its entry points alone, and nothing of src by path.
  { place: "web/ui", mayImport: [] },
  { place: "web/paging", mayImport: ["web/ui"] },
  { place: "web/engine", mayImport: [] },
  { place: "web/engine/play", mayImport: ["web/engine"] },
  { place: "web/engine/mmu", mayImport: ["web/engine"] },
  { place: "web/engine/dump", mayImport: ["web/engine"] },
  { place: "web/state", mayImport: ["web/engine"] },
  { place: "web/state/dump", mayImport: ["web/state", "web/engine", "web/engine/dump"] },
  ...["dump", "walk", "decode", "mmu", "play"].map((name) => ({
    place: `web/views/${name}`,
    mayImport: ["web/ui", "web/paging", "web/engine", "web/engine/*", "web/state", "web/state/*"],
  })),
  { place: "web/app", mayImport: ["web/ui", "web/state", "web/views/*"] },
  { place: "web", mayImport: ["web/app"] },

  // What is not shipped: all of src, helpers of their own; no test folder imports another but its helpers.
  { place: "bench", mayImport: ["src/*", "bench/boot"] },
  { place: "bench/boot", mayImport: ["src/*"] },
  { place: "scripts", mayImport: ["src/*", "scripts/*"] },
  { place: "scripts/modules", mayImport: [] },
  { place: "scripts/matrix", mayImport: ["scripts/site-server.ts", "test/browser/chromium.ts"] },
  { place: "scripts/matrix.ts", mayImport: ["scripts/matrix", "test/package/packed.ts"] },
  { place: "scripts/directions", mayImport: [] },
  { place: "scripts/syntax", mayImport: [] },
  { place: "scripts/bits", mayImport: ["scripts/syntax"] },
  { place: "scripts/style", mayImport: [] },
  { place: "scripts/generate", mayImport: ["src/decode", "src/maps/leaves.ts", "src/abi"] },
  {
    place: "scripts/mutation",
    mayImport: [
      "src/*",
      "scripts/directions",
      "scripts/syntax",
      "test/conform",
      "test/core",
      "test/differential",
      "test/mmu",
      "test/walk",
    ],
  },
  { place: "scripts/stryker", mayImport: ["vitest.config.ts"] },
  { place: "vitest.config.ts", mayImport: [] },
  { place: "test", mayImport: ["src/*"] },
  {
    place: "test/browser",
    mayImport: ["src/*", "scripts", "test/browser/site", "test/package", "test/trace/writers"],
  },
  { place: "test/browser/site", mayImport: ["src/*"] },
  {
    place: "test/cli",
    mayImport: [
      ...["src/*", "test", "test/cli/run-main.ts", "test/dump/*", "test/dump/builders.ts", "test/mmu/machines"],
      "test/trace/writers",
    ],
  },
  { place: "test/cli/run-main.ts", mayImport: ["src/*"] },
  { place: "test/conform", mayImport: ["src/*", "test"] },
  { place: "test/core", mayImport: ["src/*", "scripts/generate", "test"] },
  { place: "test/differential", mayImport: ["src/*", "test", "bench/boot"] },
  { place: "test/dump", mayImport: ["src/*", "test", "test/dump/writers", "test/dump/builders.ts"] },
  { place: "test/dump/builders.ts", mayImport: [] },
  { place: "test/dump/writers", mayImport: ["test/dump/builders.ts"] },
  { place: "test/explain", mayImport: ["src/*"] },
  { place: "test/decode", mayImport: ["src/*"] },
  { place: "test/maps", mayImport: ["src/*", "test/dump/builders.ts"] },
  {
    place: "test/inspector",
    mayImport: [
      ...["src/*", "test", "test/package", "test/cli/run-main.ts", "test/dump", "test/dump/builders.ts"],
      ...["web/engine/*", "web/*"],
    ],
  },
  { place: "test/mmu", mayImport: ["src/*", "test", "test/mmu/*"] },
  {
    place: "test/mmu/machines",
    mayImport: [
      ...["src/*", "test", "test/mmu/machines/hooks.ts", "test/mmu/machines/host.ts", "test/mmu/guest.ts"],
      "test/mmu/nested-guest.ts",
    ],
  },
  { place: "test/mmu/machines/hooks.ts", mayImport: ["src/*"] },
  { place: "test/mmu/machines/host.ts", mayImport: ["src/*"] },
  {
    place: "test/mmu/guest.ts",
    mayImport: ["src/*", "test", "test/mmu/machines/hooks.ts", "test/mmu/machines/host.ts"],
  },
  { place: "test/mmu/nested-guest.ts", mayImport: ["src/*", "test", "test/mmu/guest.ts"] },
  { place: "test/package", mayImport: ["src/*", "test/dump/builders.ts"] },
  { place: "test/package/consumer", mayImport: [] },
  { place: "test/recording", mayImport: ["src/*", "test"] },
  { place: "test/role", mayImport: ["src/*"] },
  { place: "test/spte", mayImport: ["src/*", "test"] },
  { place: "test/trace", mayImport: ["src/*", "test", "test/recording", "test/trace/writers"] },
  { place: "test/trace/writers", mayImport: ["src/*"] },
  { place: "test/tools", mayImport: ["src/*", "scripts", "scripts/*"] },
  { place: "test/walk", mayImport: ["src/*", "test"] },
];
