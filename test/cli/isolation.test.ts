/** Commands on a process that has two roots. */
import { expect, it } from "vitest";
import { at, dumpOf, P, RW, SYSTEM, USER } from "../dump/isolated-guest.js";
import { temporaryFolder } from "../temporary.js";
import { run } from "./run-main.js";

const temporary = temporaryFolder();
const file = temporary.file("isolated.elf", dumpOf(SYSTEM));
const REGISTERS = ["--cr0", "80010001", "--cr4", "20", "--efer", "d00"];
const maps = (...args: string[]) => run(["maps", file, ...REGISTERS, "--wx", ...args]);
const NOTE =
  "0x220000 is the kernel's root of a process with page-table isolation: no user page is executable by it; user code runs by 0x221000 (--half user)";

it("says why nothing is writable and executable by the kernel's root, and finds it by the users'", async () => {
  const kernel = await maps("--cr3", "220000");
  expect(kernel).toMatchObject({ code: 1, stdout: "" });
  expect(kernel.stderr.split("\n")).toContain(NOTE);
  const user = await maps("--cr3", "220000", "--half", "user");
  expect(user.stdout).toMatch(/^0000000000000000 0000000000001000 +4 KiB +4K urwx /m);
  expect(user.stderr).not.toContain("page-table isolation");
  expect(await maps("--cr3", "221000")).toMatchObject({ stdout: user.stdout });
  expect(await maps("--cr3", "221000", "--half", "kernel")).toMatchObject({ code: 1, stdout: "" });
});

it("is quiet where it is asked to be, and of roots that are no pair", async () => {
  expect((await maps("--cr3", "220000", "-q")).stderr).not.toContain("page-table isolation");
  expect((await maps("--cr3", "210000")).stderr).not.toContain("page-table isolation");
});

it("says nothing of the kernel's own root, nor of one that lets users execute", async () => {
  const kernels = { ...SYSTEM, 530: { 300: at(0x300) }, 531: { 511: at(0x301) } };
  const open = { ...SYSTEM, 544: { ...SYSTEM[0x220], 0: at(0x240, P | RW | USER) } };
  for (const [tables, root] of [
    [kernels, "212000"],
    [open, "220000"],
  ] as const) {
    const other = temporary.file(`${root}.elf`, dumpOf(tables));
    const { stderr } = await run(["maps", other, ...REGISTERS, "--cr3", root]);
    expect(stderr).not.toContain("page-table isolation");
  }
});

it("says where CR3 is from", async () => {
  const { stdout } = await run(["info", file, "--cr3", "220000", ...REGISTERS, "--half", "user"]);
  expect(stdout).toMatch(/CR3 +0x221000 +given, --half user/);
});

it("refuses a half where there are none", async () => {
  const { code, stderr } = await run([
    "maps",
    file,
    "--cr3",
    "220000",
    "--cr0",
    "80010001",
    "--cr4",
    "20",
    "--efer",
    "0",
    "--half",
    "user",
  ]);
  expect(code).toBe(2);
  expect(stderr).toContain("--half: expected 4- or 5-level paging, found PAE paging");
});
