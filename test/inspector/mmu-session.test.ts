/** The MMU view's worker: examples show what they are for, recordings are shown as recorded and as replayed. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packRecording, readRecording } from "../../src/recording/index.js";
import { analyseTrace } from "../../src/trace/index.js";
import { changesBetween } from "../../web/engine/mmu/picture.js";
import { MmuSession, type ShownStep } from "../../web/engine/mmu/session.js";
import { STORIES } from "../../web/engine/mmu/story-list.js";
import { ROOT } from "../package/packed.js";

const session = new MmuSession();
const steps = (count: number): Promise<ShownStep[]> =>
  Promise.all(Array.from({ length: count }, (_, number) => session.step(number)));
const TASK = { id: 1, onProgress: () => {} };

describe("the examples", () => {
  it.each(STORIES.map(({ id }) => [id]))("%s: every step has its pictures, whose links lead to pages", async (id) => {
    const shown = session.example(id);
    expect(shown.steps.length).toBeGreaterThan(3);
    for (const step of await steps(shown.steps.length)) {
      expect(step.sides.map(({ picture }) => picture.pages.length > 0)).toEqual(shown.sides.map(() => true));
      for (const { picture } of step.sides) {
        const ids = picture.pages.map((page) => page.id);
        expect(new Set(ids).size).toBe(ids.length);
        for (const { to } of picture.pages.flatMap(({ entries }) => entries))
          if (to !== undefined) expect(ids).toContain(to);
        for (const { current } of picture.roots) if (current !== undefined) expect(ids).toContain(current.page);
      }
    }
    await expect(session.step(shown.steps.length)).rejects.toThrow(RangeError);
  });

  it("a 32-bit guest's root is promoted, and of PAE form where tables have three levels", async () => {
    session.example("guest-32bit");
    const [pae, four] = (await session.step(1)).sides.map(({ picture }) => picture);
    expect(pae!.pages[0]).toMatchObject({ level: 3, rootCount: 1, fields: { pae_root: "1", level_promoted: "1" } });
    expect(four!.pages[0]).toMatchObject({ level: 4, rootCount: 1, fields: { level_promoted: "1" } });
    expect(pae!.pages.filter(({ level }) => level === 2).map(({ fields }) => fields.quadrant ?? "0")).toEqual([
      "0",
      "1",
      "2",
      "3",
    ]);
    // The guest has two levels, whatever its shadow has.
    expect(four!.tables.map(({ gfn, level, size }) => [gfn, level, size])).toEqual([
      [1n, 2, 4],
      [2n, 1, 4],
    ]);
  });

  it("a page goes out of sync and is synchronised", async () => {
    const { steps: list } = session.example("unsync");
    const unsync = (await steps(list.length)).map(({ sides }) =>
      sides[0]!.picture.pages.filter((page) => page.unsync).map(({ gfn }) => gfn),
    );
    expect(unsync).toEqual([[], [], [], [4n], [4n], [], [], []]);
    expect((await session.step(3)).sides[0]!.events.some((text) => text.startsWith("kvm_mmu_unsync_page"))).toBe(true);
    expect((await session.step(5)).sides[0]!.events.some((text) => text.startsWith("kvm_mmu_sync_page"))).toBe(true);
    // What the guest writes without an exit is seen at once, what the shadow makes of it later.
    expect((await session.step(4)).sides[0]!.changes).toMatchObject({ made: [], changed: [], guest: ["4/5", "4/7"] });
  });

  it("switches find L1's root without the stale role bit, and none with it", async () => {
    const { steps: list, sides } = session.example("stale-role-bit");
    expect(sides).toHaveLength(2);
    const last = (await session.step(list.length - 1)).sides.map(
      ({ picture }) => picture.roots.find(({ context }) => context === "root_mmu")!,
    );
    expect(last[0]).toMatchObject({ hits: 3, misses: 0, previous: [undefined, undefined, undefined] });
    expect(last[1]).toMatchObject({ hits: 0, misses: 3 });
    // The cache is full of one and the same root.
    expect(new Set(last[1]!.previous.map((root) => root?.page))).toEqual(new Set([last[1]!.current!.page]));
  });

  it("five levels have a root of their own, and the first is found again", async () => {
    session.example("la57");
    const roots = await Promise.all(
      [1, 3, 5].map(async (number) =>
        (await session.step(number)).sides.map(({ picture }) => picture.roots[0]!.current!.page),
      ),
    );
    expect(roots[0]).toEqual(roots[2]);
    expect(roots[1]![0]).not.toBe(roots[0]![0]);
  });

  it("an execute-only alias refuses reads", async () => {
    session.example("aliases");
    expect((await session.step(3)).sides.map(({ result }) => result)).toEqual(["fixed", "inject"]);
    const made = (await session.step(2)).sides[0]!;
    expect(made.picture.pages.filter(({ level }) => level === 1).map(({ gfn }) => gfn)).toHaveLength(2);
  });
});

describe("a recording", () => {
  const recordings = [
    ["recordings/b3p_pae_pdpte/npt0", true],
    ["kernel-recordings/x1_nested_ept/ept-tdp1-nx", false],
    ["kernel-recordings/cp_pae_3roots/eptnoad-tdp0", false],
    ["direct-recordings/g3_nested_32/la57-npt1-tdp0", true],
    ["kernel-recordings/k4_lm4_prefault/npt1-tdp1", false],
  ] as const;

  it.each(recordings)("%s is shown step by step beside its replay", async (name, special) => {
    const folder = join(ROOT, "test", "fixtures", name);
    const recorded = readRecording(folder);
    const shown = await session.open(new File([packRecording(folder)], "some.recording"), TASK);
    expect(shown.warning).toBeUndefined();
    expect(shown.steps).toHaveLength(recorded.steps.length);
    let specials = 0;
    for (const [index, { sides, differences }] of (await steps(shown.steps.length)).entries()) {
      const { snapshot } = recorded.steps[index]!;
      expect(differences).toEqual([]);
      const [kernel, engine] = sides.map(({ picture }) => picture.pages);
      const ordinary = kernel!.filter((page) => page.special === undefined);
      const key = ({
        gfn,
        role,
        unsync,
        rootCount,
      }: {
        gfn: bigint;
        role: number;
        unsync: boolean;
        rootCount: number;
      }) => `${gfn} ${role} ${unsync} ${rootCount}`;
      expect(ordinary.map(key).sort()).toEqual(snapshot.pages.map(key).sort());
      for (const page of ordinary) {
        const { entries } = snapshot.pages.find(({ hpa }) => hpa.toString(16) === page.id)!;
        expect(page.entries.length + page.more).toBe(entries.size);
      }
      specials += kernel!.length - ordinary.length;
      expect(engine!.filter((page) => page.special !== undefined)).toEqual([]);
      const active = sides.map(({ picture }) => picture.roots.find((roots) => roots.active));
      expect(active[1]?.current?.page === undefined).toBe(active[0]?.current?.page === undefined);
    }
    expect(specials > 0).toBe(special);
  });

  it("is refused where it is none, and what was open stays", async () => {
    session.example("unsync");
    await expect(session.open(new File(["no recording"], "x.recording"), TASK)).rejects.toThrow(/x\.recording/);
    expect((await session.step(7)).title).toBe("A read of 0x7000");
    expect(() => session.example("no such example")).toThrow(RangeError);
  });
});

describe("a trace", () => {
  const folder = join(ROOT, "test", "fixtures", "recordings", "h10_lm4_smm", "npt0");
  const trace = () => readFileSync(join(folder, "trace.txt.gz"));

  it("is shown fault by fault, with the pages that were seen until then", async () => {
    const shown = await session.open(new File([trace()], "trace.txt.gz"), TASK);
    expect(shown).toMatchObject({ kind: "trace", title: "trace.txt.gz", sides: ["as far as the trace shows"] });
    const { report, pages } = await analyseTrace(trace());
    expect(shown.report).toEqual({ ...report, name: "trace.txt.gz" });
    expect(shown.steps).toHaveLength(report.summary.events.kvm_page_fault!);
    const all = await steps(shown.steps.length);
    for (const { sides, title } of all) {
      expect(title).toMatch(/page_fault/);
      expect(sides[0]!.events[0]).toContain("page_fault");
    }
    const last = all.at(-1)!.sides[0]!.picture.pages;
    const live = pages().filter((row) => row.live > 0);
    expect(last.map(({ gfn, roleText }) => `${gfn} ${roleText}`).sort()).toEqual(
      live.map(({ gfn, role }) => `${gfn} ${role}`).sort(),
    );
    const pictures = all.map(({ sides }) => sides[0]!.picture.pages);
    for (const one of pictures) {
      for (const { to } of one.flatMap(({ entries }) => entries)) expect(one.map(({ id }) => id)).toContain(to);
    }
    expect(pictures.flat().some(({ entries }) => entries.length > 0)).toBe(true);
    expect(all.some(({ sides }) => sides[0]!.changes.made.length > 0)).toBe(true);
  });

  it("is read no farther where it is cancelled", async () => {
    session.example("unsync");
    const opened = session.open(new File([trace()], "trace.txt.gz"), { id: 7, onProgress: () => session.cancel(7) });
    await expect(opened).rejects.toMatchObject({ name: "AbortError" });
    expect((await session.step(7)).title).toBe("A read of 0x7000");
  });
});

describe("changes", () => {
  it("are of a page's like: another page at the same address is a new one", async () => {
    session.example("unsync");
    const { picture } = (await session.step(1)).sides[0]!;
    const other = {
      ...picture,
      pages: picture.pages.map((page) => (page.level === 1 ? { ...page, gfn: page.gfn + 1n } : page)),
    };
    const { made, gone, changed } = changesBetween(picture, other);
    expect(made).toEqual([picture.pages.at(-1)!.id]);
    expect(gone).toEqual([picture.pages.at(-1)]);
    expect(changed).toEqual([]);
    expect(changesBetween(undefined, picture)).toEqual({ made: [], changed: [], gone: [], guest: [] });
  });
});
