/**
 * One access with everything that a host's own TLB wants to know of it, in words of 32 bits. The common case is the fast walk,
 * whose entries are read once more for their rights; anything else is the full walk.
 */
import {
  ACCESS_PROBE,
  ACCESS_WRITE,
  CR4_PGE,
  EPT_D,
  EPT_MEMTYPE,
  EPT_MEMTYPE_SHIFT,
  EPTP_AD,
  LINE_FLAG_DIRTY,
  LINE_FLAG_GLOBAL,
  LINE_FLAG_WATCHED,
  PDE4M_PAT,
  PTE_D,
  PTE_G,
  PTE_PCD,
  PTE_PKEY,
  PTE_PKEY_SHIFT,
  PTE_PS,
  PTE_PWT,
} from "../../abi/bits";
import {
  KIND_EPT,
  KIND_GUEST,
  MODE_32BIT,
  MODE_4LEVEL,
  MODE_5LEVEL,
  MODE_EPT4,
  NOT_READ,
  STATUS_OK,
} from "../../abi/codes";
import { ResultLine, Space, Work } from "../../abi/records";
import { resolve } from "../../memory/resolve";
import { isWatched } from "../../memory/watch";
import { run } from "../space/run";
import { readAgain } from "../tlb/read-again";
import { enterFast } from "../tlb/tlb";
import { walkFast } from "./fast";
import { wide } from "./single";

/** What a stage that is not there grants. */
// @ts-ignore: decorator
@inline const ALL_RIGHTS: u32 = 15;

/** The access, and its line in the Work record; a Status. */
export function translateLine(space: Space, high: u32, low: u32, access: u32): u32 {
  const address = wide(high, low);
  const line = space.work.result;
  line.linearLow = low;
  line.linearHigh = high;
  const fast = walkFast(space, address, access);
  if (<i64>fast >= 0 && readAgain(space, address, fast)) {
    const work = space.work;
    setAddresses(line, fast, fast);
    setLeaf(space, line, work.entry, work.level, work.rights, ALL_RIGHTS, true, access);
    if (work.watch.map != 0) markWatched(space, line, fast);
    if (space.tlb != 0 && !(access & ACCESS_PROBE)) enterFast(space, address, fast);
    return STATUS_OK;
  }
  const status = run(space, address, access, 0);
  if (status == STATUS_OK) foundLine(space, line, access);
  else faultLine(space.work, line, status);
  return status;
}

// @ts-ignore: decorator
@inline function setAddresses(line: ResultLine, pa: u64, gpa: u64): void {
  line.paLow = <u32>pa;
  line.paHigh = <u32>(pa >> 32);
  line.gpaLow = <u32>gpa;
  line.gpaHigh = <u32>(gpa >> 32);
}

/** What the full walk has left in the Work record. */
function foundLine(space: Space, line: ResultLine, access: u32): void {
  const work = space.work;
  const second = space.second;
  const level = work.level;
  setAddresses(line, work.pa, work.gpa);
  if (second) {
    setLeaf(
      space,
      line,
      work.entry,
      level,
      work.rights,
      work.secondRights,
      work.secondLevel == 0 || isDirty(second, work.secondEntry),
      access,
    );
    line.pageShift = min<u32>(shiftOf(space.mode, level), shiftOf(second.mode, work.secondLevel));
  } else {
    setLeaf(space, line, work.entry, level, work.rights, ALL_RIGHTS, true, access);
  }
  if (work.watch.map != 0) markWatched(space, line, work.pa);
}

function markWatched(space: Space, line: ResultLine, pa: u64): void {
  const at = resolve(space.memory, pa);
  if (at < NOT_READ && isWatched(space.work.watch, at)) line.flags |= LINE_FLAG_WATCHED;
}

/** `dirty`: whether the second stage's leaf lets writes pass without setting a flag. */
function setLeaf(
  space: Space,
  line: ResultLine,
  leaf: u64,
  level: u32,
  rights: u32,
  secondRights: u32,
  dirty: bool,
  access: u32,
): void {
  const mode = space.mode;
  line.status = STATUS_OK;
  line.level = level;
  line.pageShift = shiftOf(mode, level);
  line.rights = rights;
  line.secondRights = secondRights;
  line.memoryType = memoryType(space, leaf, level);
  line.key = mode == MODE_4LEVEL || mode == MODE_5LEVEL ? <u32>((leaf & PTE_PKEY) >> PTE_PKEY_SHIFT) : 0;
  const guest = space.kind == KIND_GUEST;
  const global = guest && level != 0 && (leaf & PTE_G) != 0 && (space.cr4 & CR4_PGE) != 0;
  // The entry is what the walk read: a write has set what was clear.
  const writes = (access & (ACCESS_WRITE | ACCESS_PROBE)) == ACCESS_WRITE;
  const clean = !writes && !(dirty && (level == 0 || isDirty(space, leaf)));
  line.flags = (global ? LINE_FLAG_GLOBAL : 0) | (clean ? 0 : LINE_FLAG_DIRTY);
}

/** Whether a leaf's dirty flag is set, or its tables keep none. */
function isDirty(space: Space, leaf: u64): bool {
  if (space.kind != KIND_EPT) return (leaf & PTE_D) != 0;
  return (space.cr3 & EPTP_AD) == 0 || (leaf & EPT_D) != 0;
}

/** log2 of the bytes that a leaf maps. */
// @ts-ignore: decorator
@inline function shiftOf(mode: u32, level: u32): u32 {
  return level == 0 ? 12 : 12 + (level - 1) * (mode == MODE_32BIT ? 10 : 9);
}

/** EPT: bits 5:3; else the PAT index (PAT, PCD, PWT), whose high bit is bit 7 of a 4 KiB leaf and bit 12 of a larger one. */
function memoryType(space: Space, leaf: u64, level: u32): u32 {
  if (space.mode >= MODE_EPT4) return <u32>((leaf & EPT_MEMTYPE) >> EPT_MEMTYPE_SHIFT);
  const pat = level > 1 ? <u64>PDE4M_PAT : PTE_PS;
  return (leaf & PTE_PWT ? 1 : 0) + (leaf & PTE_PCD ? 2 : 0) + (leaf & pat ? 4 : 0);
}

function faultLine(work: Work, line: ResultLine, status: u32): void {
  const code = work.code;
  line.status = status;
  line.codeLow = <u32>code;
  line.codeHigh = <u32>(code >> 32);
  line.level = work.level;
  line.stage = work.stage;
  const gpa = work.stage != 0 ? work.address : 0;
  line.gpaLow = <u32>gpa;
  line.gpaHigh = <u32>(gpa >> 32);
}
