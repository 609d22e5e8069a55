/** Commands on a process that has two roots. */
import { describe, expect, it } from "vitest";
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
  expect(user.stdout).toMatch(/^0000000000000000 0000000000001000 +4 KiB +4K uwx /m);
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

describe("find --all", () => {
  const find = (...args: string[]) =>
    run(["find", file, ...args, "--all", "--cr4", "20", "--cr0", "80010001", "--efer", "d00", "--cr3", "210000"]);

  it("says which space maps a page, by the rights of user code, and once what all have in common", async () => {
    const { code, stdout } = await find("250000", "251123");
    expect(code).toBe(0);
    expect(stdout.split("\n")).toEqual([
      "0x250000 0x220000     0000000000000000 4K uwx",
      "0x251123 0x220000     0000000000001123 4K u-x",
      "0x250000 kernel       ffff960000050000 2M -w-",
      "0x251123 kernel       ffff960000051123 2M -w-",
      "",
    ]);
  });

  it("gives JSON, and ends with 1 where nothing maps an address", async () => {
    const { stdout } = await find("251000", "--json");
    expect(
      stdout
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toEqual([
      {
        version: 1,
        gpa: "0x251000",
        root: "0x220000",
        shared: 1,
        va: "0x1000",
        pageSize: 4096,
        user: true,
        writable: false,
        executable: true,
      },
      {
        version: 1,
        gpa: "0x251000",
        root: "0x220000",
        shared: 2,
        va: "0xffff960000051000",
        pageSize: 2097152,
        user: false,
        writable: true,
        executable: false,
      },
    ]);
    const none = await find("900000");
    expect(none).toMatchObject({ code: 1, stdout: "" });
    expect(none.stderr).toContain("no address space maps 0x900000");
  });

  it("leaves out a space whose tables contain themselves, and says so", async () => {
    const cyclic = temporary.file(
      "cyclic.elf",
      dumpOf({
        ...SYSTEM,
        578: { ...SYSTEM[0x242], 2: at(0x240) },
        577: { 0: at(0x242, P | RW | USER), 1: at(0x240, P | USER) },
      }),
    );
    const { stderr, code } = await run([
      "find",
      cyclic,
      "210000",
      "--all",
      "--cr4",
      "20",
      "--cr0",
      "80010001",
      "--efer",
      "d00",
      "--cr3",
      "210000",
    ]);
    expect(code).toBe(0);
    expect(stderr.match(/the space at 0x220000 is left out: .*contains itself/g)).toHaveLength(1);
  });
});
