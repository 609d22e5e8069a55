/** Pictures of a recorded step: what the kernel had, with its special roots, and what this project's engine has. */
import type { MmuContextState, MmuState, PlayedStep, RecordedContext, Snapshot } from "x86-paging/recording";
import {
  guestTables,
  idOf,
  type PageFacts,
  type Picture,
  type PictureRoot,
  type PictureRoots,
  picturePages,
} from "./picture.js";

/** The kernel's "no root". */
const NONE = 0xffff_ffff_ffff_ffffn;

function rootsOf(
  name: string,
  context: MmuContextState | undefined,
  active: boolean,
  ids: ReadonlySet<string>,
): PictureRoots[] {
  if (context === undefined) return [];
  const named = (pgd: bigint, hpa: bigint): PictureRoot | undefined => {
    if (hpa === NONE) return undefined;
    const id = idOf(hpa & ~0xfffn);
    return { pgd, ...(ids.has(id) ? { page: id } : {}) };
  };
  const current = named(context.rootPgd, context.rootHpa);
  const previous = context.previousRoots.map(({ pgd, hpa }) => named(pgd, hpa));
  if (!active && current === undefined && previous.every((root) => root === undefined)) return [];
  return [{ context: name, active, current, previous }];
}

/** The tables outside the hash that a context's root is, or leads through. */
function specialRoots(context: RecordedContext | undefined): PageFacts[] {
  if (context === undefined) return [];
  const named = [
    ["pae_root", context.paeRoot, 3],
    ["pml4_root", context.pml4Root, 4],
    ["pml5_root", context.pml5Root, 5],
  ] as const;
  return named.flatMap(([special, root, level]) =>
    root === undefined || root.entries.size === 0
      ? []
      : [
          {
            hostAddress: root.hpa,
            gfn: 0n,
            role: 0,
            layout: "5.19" as const,
            unsync: false,
            rootCount: 1,
            tdp: false,
            special,
            level,
            entries: root.entries,
          },
        ],
  );
}

/** What the kernel had. */
export function recordedPicture({ step, readGuest }: PlayedStep): Picture {
  const { pages: recorded, rootMmu, guestMmu, active }: Snapshot = step.snapshot;
  const facts = recorded.map((page): PageFacts => ({ ...page, hostAddress: page.hpa, layout: "5.19" }));
  const special = [rootMmu, guestMmu].flatMap(specialRoots);
  // A special root of an earlier guest mode may still be there, and is of no use.
  const ends = new Set(
    [rootMmu, guestMmu].flatMap((context) => (context === undefined ? [] : [idOf(context.rootHpa & ~0xfffn)])),
  );
  const used = special.filter(
    ({ hostAddress, special: name }) =>
      ends.has(idOf(hostAddress)) ||
      (name === "pae_root" && special.some((other) => ends.has(idOf(other.hostAddress)))),
  );
  return pictureOf([...used, ...facts], { rootMmu, guestMmu, active }, readGuest);
}

/** What the engine has. */
export function replayedPicture({ state, readGuest }: PlayedStep): Picture {
  const facts = state.pages.map(
    (page): PageFacts => ({ ...page, hostAddress: page.hpa, role: page.fullRole, layout: "project" }),
  );
  return pictureOf(facts, state, readGuest);
}

interface Contexts {
  readonly rootMmu: MmuContextState;
  readonly guestMmu?: MmuContextState | undefined;
  readonly active: MmuState["active"];
}

function pictureOf(
  facts: readonly PageFacts[],
  { rootMmu, guestMmu, active }: Contexts,
  readGuest: PlayedStep["readGuest"],
): Picture {
  const pages = picturePages(facts);
  const ids = new Set(pages.map(({ id }) => id));
  return {
    pages,
    roots: [
      ...rootsOf("root_mmu", rootMmu, active === "root_mmu", ids),
      ...rootsOf("guest_mmu", guestMmu, active === "guest_mmu", ids),
    ],
    tables: guestTables(pages, readGuest),
  };
}
