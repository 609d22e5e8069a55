/** Whatever files and arguments have in them, a terminal is told nothing but text. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { TerminalText, visible } from "../../src/cli/terminal-text.js";
import { concat, elfCore, limeRange, note, page, qemuNote, table64 } from "../dump/builders.js";
import { temporaryFolder } from "../temporary.js";
import { fixture, run } from "./run-main.js";

const { directory } = temporaryFolder();

/** Sets the title, clears the screen by C0 and C1, moves to another line, turns text around, ends a line. */
const HOSTILE = "\u001b]0;x\u0007\u001b[2J\u009b2J\r\u202e\u2066\u2028\u007f\n";
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const HARMFUL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/;

describe("a line", () => {
  it("shows what a terminal could obey, or a reader not see, as \\u escapes", () => {
    expect(visible(HOSTILE)).toBe("\\u001b]0;x\\u0007\\u001b[2J\\u009b2J\\u000d\\u202e\\u2066\\u2028\\u007f\\u000a");
    expect(visible("\ud800 \u{e0001}\u200b\ufeff")).toBe("\\ud800 \\udb40\\udc01\\u200b\\ufeff");
    expect(visible("a\tb – 内存 \\u001b \u{1f600}")).toBe("a\tb – 内存 \\u001b \u{1f600}");
  });

  it("of JSON keeps its meaning", () => {
    const value = { [HOSTILE]: HOSTILE };
    const line = visible(JSON.stringify(value));
    expect(line).not.toMatch(HARMFUL);
    expect(JSON.parse(line)).toEqual(value);
  });

  it("has the styles of the command, and none of its content", () => {
    const text = new TerminalText({ isTTY: true }, {});
    const line = text.line(`${text.style("bold", `a${HOSTILE}`)} \u001b[31mred`);
    expect(line.startsWith("\u001b[1ma\\u001b]0;x")).toBe(true);
    expect(line.endsWith("\u001b[22m \\u001b[31mred")).toBe(true);
    expect(text.line("\ufdd0[1m")).toBe("\ufdd0[1m");
  });
});

describe("commands escape", () => {
  async function expectHarmless(args: readonly string[], options: Parameters<typeof run>[1] = {}): Promise<string> {
    for (const terminal of [false, true]) {
      const { stdout, stderr } = await run(args, { ...options, terminal, env: { NO_COLOR: "1" } });
      const text = stdout + stderr;
      expect(text).not.toMatch(HARMFUL);
      expect(text).toContain("\\u001b");
      if (terminal) return text;
    }
    return "";
  }

  const root = table64({ 0: 0x2007n });
  const dump = (extra: Uint8Array) =>
    elfCore({
      notes: concat(qemuNote({ cr3: 0x1000n, cr4: 0x20n }), extra),
      segments: [
        { gpa: 0x1000n, bytes: root },
        { gpa: 0x2000n, bytes: page(0) },
      ],
    });
  const named = (name: string, bytes: Uint8Array | string) => {
    const path = join(directory, name);
    writeFileSync(path, bytes);
    return path;
  };
  const hostileName = HOSTILE.replaceAll("\n", "");

  it("a dump's VMCOREINFO", async () => {
    const text = new TextEncoder().encode(`OSRELEASE=6.1${HOSTILE}`);
    const latin1 = Uint8Array.from([...text].filter((byte) => byte < 0x80));
    const path = named("vmcoreinfo.elf", dump(note("VMCOREINFO", 0, concat(latin1, Uint8Array.of(0x9b, 0x41)))));
    expect(await expectHarmless(["tour", path])).toMatch(/system +Linux 6\.1\\u001b/);
  });

  it("names of files", async () => {
    const path = named(`${hostileName}.elf`, dump(new Uint8Array(0)));
    for (const command of [["tour"], ["maps"], ["find", "5000"], ["conform"], ["replay"]]) {
      await expectHarmless([command[0]!, path, ...command.slice(1)]);
    }
    await expectHarmless(["maps", named(`${hostileName}.lime`, limeRange(0n, page(0)))]);
  });

  it("addresses of arguments, lists and standard input, and their names", async () => {
    const walk = ["walk", fixture("i386-pae")];
    await expectHarmless([...walk, HOSTILE]);
    await expectHarmless([...walk, "--from", named("list", HOSTILE)]);
    await expectHarmless([...walk, "--from", join(directory, hostileName)]);
    await expectHarmless([...walk, "-"], { stdin: HOSTILE });
  });

  it("options, commands and words", async () => {
    for (const args of [[HOSTILE], ["maps", "x", `--${HOSTILE}`], ["maps", "x", "--cr3", HOSTILE], ["role", HOSTILE]]) {
      await expectHarmless(args);
    }
    await expectHarmless(["role", "encode", `a=${HOSTILE}`]);
    await expectHarmless(["role", "3713", "--kernel", HOSTILE]);
    await expectHarmless(["bench", "--only", HOSTILE]);
  });

  it("vectors and their folders", async () => {
    const folder = join(directory, hostileName);
    mkdirSync(folder);
    writeFileSync(join(folder, "bad.ndjson"), JSON.stringify({ id: "x", mode: HOSTILE }));
    await expectHarmless(["conform", folder]);
  });
});
