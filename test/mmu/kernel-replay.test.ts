/** Recordings of Linux 6.12, and which of its rules each of them needs. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { KernelRuleName } from "../../src/abi/kernel-rules.js";
import { readRecording } from "../../src/recording/format/reader.js";
import { replayAgainst } from "../../src/recording/replay/against.js";
import { engineTarget } from "../../src/recording/replay/engine-target.js";
import { replay } from "../../src/recording/replay/replayer.js";
import { describeReplays } from "./replays.js";

describeReplays("recordings of Linux 6.12", ["kernel-recordings"], /./, 10);

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), "..", "fixtures", "kernel-recordings");
const read = (name: string) => readRecording(join(FOLDER, name));

/** A recording that goes wrong without the rule. */
const NEEDED: readonly (readonly [KernelRuleName, string])[] = [
  ["late-unprotect", "k1_lm4_cr3_hole/npt0"],
  ["invalidate-syncs", "x1_nested_ept/ept-tdp1-nx"],
  ["sync-keeps", "d1_lm4_ptedit/npt0"],
  ["zap-passes", "x1_nested_ept/ept-tdp1-nx"],
  ["zap-at-once", "e2_lm4_dirtylog/ept-tdp1-nx"],
  ["fresh-invalid", "h10_lm4_smm/ept-tdp1-nx"],
  ["empty-bit-63", "h10_lm4_smm/ept-tdp1-nx"],
  ["write-protected", "e2_lm4_dirtylog/ept-tdp0-nx"],
  ["dummy-root", "k1_lm4_cr3_hole/npt0"],
  ["nx-every-page", "h10_lm4_smm/ept-tdp1-nx"],
  ["nx-own-tables", "e2_lm4_dirtylog/ept-tdp0-nx"],
  ["split-on-fault", "a3_lm4_large/ept-tdp1-nx"],
];

describe("a rule of Linux 6.12", () => {
  it.each(NEEDED)("%s is needed by %s", (rule, name) => {
    const report = replay(
      read(name),
      (config, host, sink) => engineTarget({ ...config, kernelRules: { [rule]: false } }, host, sink),
      { limit: 1 },
    );
    expect(report.differences.length + (report.failure === undefined ? 0 : 1)).toBeGreaterThan(0);
  });

  it("is named for each difference against Linux 6.1", () => {
    const { differences, failure } = replayAgainst(read("d1_lm4_ptedit/npt0"), engineTarget, "6.1");
    expect(failure).toBeUndefined();
    const names = new Set(differences.map(({ rules }) => rules?.join(" + ")));
    expect(names).toContain("write-protected");
    expect(names).toContain("sync-keeps");
    expect(names).not.toContain(undefined);
  });

  it("explains nothing where the kernel is the recorded one", () => {
    expect(replayAgainst(read("d1_lm4_ptedit/npt0"), engineTarget, "6.12").differences).toEqual([]);
  });
});

describe("a recording of Linux 6.12", () => {
  it("is not one of 6.1: the stages of EPT violations differ", () => {
    const recording = read("cp_pae_3roots/eptnoad-tdp0");
    const older = { ...recording, config: { ...recording.config, kernel: "6.1" as const } };
    const differences = replay(older, (config, host, sink) => engineTarget({ ...config, kernel: "6.12" }, host, sink));
    expect(differences.differences.length).toBeGreaterThan(0);
  });
});
