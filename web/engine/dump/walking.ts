/** Walks of a space, explained; pages by their virtual addresses. */
import { Access, type AddressSpace } from "x86-paging";
import { bitOf, CR4, EPTP, placed } from "x86-paging/abi";
import { explain } from "x86-paging/explain";
import { pagingModeOf, ScanRights } from "x86-paging/maps";
import type { RunningTask } from "../tasks.js";
import type { AccessKind, PageAnswer, SecondStage, WalkAnswer, WalkQuestion } from "./answers.js";
import { engine } from "./opened.js";
import type { Space } from "./space.js";

const PAGE = 4096n;

const KINDS: Readonly<Record<AccessKind, number>> = {
  any: Access.Read,
  read: Access.Read,
  write: Access.Write,
  fetch: Access.Fetch,
  "shadow-stack-read": Access.ShadowStack,
  "shadow-stack-write": Access.ShadowStack | Access.Write,
};

/** The access word of a question. */
export function accessOf({ access, user, ac }: Pick<WalkQuestion, "access" | "user" | "ac">): number {
  // An access that is allowed wherever something is mapped: supervisor mode, exempt from SMAP.
  if (access === "any") return Access.Probe | Access.Ac;
  return Access.Probe | KINDS[access] | (user ? Access.User : 0) | (ac ? Access.Ac : 0);
}

export async function walkOf(space: Space, question: WalkQuestion, task?: RunningTask): Promise<WalkAnswer> {
  const pse = (space.registers.cr4 & bitOf(CR4, "PSE")) !== 0n;
  const access = accessOf(question);
  return withSpace(space, question, task, async (walked, second) => {
    const explanation = await space.opened.read(task, () => explain(walked, question.address, access));
    return { explanation, mode: space.mode, pse, secondMode: second?.mode };
  });
}

/** Makes a space of the registers and what the question says, and gives it back. */
async function withSpace<T>(
  { opened, registers }: Space,
  { strict, pkru, pkrs, second }: Omit<WalkQuestion, "address" | "access" | "user" | "ac">,
  task: RunningTask | undefined,
  use: (space: AddressSpace, second: AddressSpace | undefined) => Promise<T>,
): Promise<T> {
  const { cr0, cr3, cr4, efer, maxPhysAddr, encryptionMask } = registers;
  const host = second === undefined ? undefined : secondStage(opened.memory, second, registers);
  try {
    const walked = await opened.read(task, () =>
      engine().createAddressSpace(opened.memory, {
        ...{ cr0, cr3: second?.cr3 ?? cr3, cr4, efer, maxPhysAddr, lenient: !strict },
        ...(host === undefined ? { encryptionMask } : { secondStage: host }),
        ...(pkru === undefined ? {} : { pkru }),
        ...(pkrs === undefined ? {} : { pkrs }),
      }),
    );
    try {
      return await use(walked, host);
    } finally {
      walked.dispose?.();
    }
  } finally {
    host?.dispose?.();
  }
}

function secondStage(
  memory: Space["opened"]["memory"],
  { kind, root }: SecondStage,
  { cr0, cr4, efer, maxPhysAddr }: Space["registers"],
): AddressSpace {
  if (kind === "ept") return engine().createEpt(memory, { eptp: withFlags(root), maxPhysAddr });
  // Nested tables have the host's format; a host without paging has none.
  const usual = pagingModeOf({ cr0, cr4, efer }) === "none" ? {} : { cr4, efer };
  return engine().createNpt(memory, { ncr3: root, maxPhysAddr, ...usual });
}

function withFlags(eptp: bigint): bigint {
  if ((eptp & (PAGE - 1n)) !== 0n) return eptp;
  return eptp | placed(EPTP, "WALK_LENGTH", 3n) | placed(EPTP, "MEMTYPE", 6n);
}

/** The page that has this address. */
export async function pageAt(space: Space, address: bigint): Promise<PageAnswer> {
  const { opened } = space;
  const va = address & ~(PAGE - 1n);
  const none = { va, pa: undefined, pageSize: 0, rights: 0, bytes: undefined };
  const { explanation } = await walkOf(space, { address: va, access: "any", user: false, ac: true, strict: false });
  const { result } = explanation.walk;
  if (!result.ok) return { ...none, why: explanation.deciding?.text ?? "not mapped" };
  const bytes = new Uint8Array(Number(PAGE));
  const { dump } = opened.open;
  const held = await opened.read(undefined, () => dump.pageSource.readPage(result.pa >> 12n, bytes));
  const { pa, pageSize } = result;
  const { user, write, execute } = result.rights;
  const rights = (user ? ScanRights.User : 0) | (write ? ScanRights.Write : 0) | (execute ? ScanRights.Execute : 0);
  if (held) return { va, pa, pageSize, rights, bytes, why: undefined };
  return { va, pa, pageSize, rights, bytes: undefined, why: WHY[dump.presence(pa, PAGE)] };
}

const WHY = {
  held: "a part of this page is not in the dump",
  absent: "this page is not in the dump",
  excluded: "the dump's writer left this page out",
  cut: "the file breaks off before this page, or a part of it is missing",
} as const;
