/** Whether an exercise is done, by what the machine and its accesses are. */
import { Access } from "x86-paging";
import { bitOf, PFERR } from "x86-paging/abi";
import type { PlayMachine, PlayResult } from "./machine.js";

const USER_READ = Access.User;
const USER_WRITE = Access.User | Access.Write;
const USER_FETCH = Access.User | Access.Fetch;

const last = (results: readonly PlayResult[]): PlayResult | undefined => results.at(-1);
const bit = (result: PlayResult | undefined, mask: bigint) => ((result?.fault?.errorCode ?? 0n) & mask) !== 0n;

/**
 * By an exercise's name: whether it is done, by the machine as it is and the accesses since the exercise began, the last one last.
 */
export const CHECKS: Readonly<Record<string, (machine: PlayMachine, results: readonly PlayResult[]) => boolean>> = {
  map: (_, results) =>
    results.some(
      ({ access, pa, fault }) =>
        access.user &&
        access.kind === "read" &&
        fault === undefined &&
        pa !== undefined &&
        access.address >> 12n === 9n &&
        pa >> 12n === 0x109n,
    ),
  execute: (machine) =>
    machine.probe(0x4000n, USER_FETCH).ok &&
    machine.probe(0x4000n, USER_READ).ok &&
    !machine.probe(0x4000n, USER_WRITE).ok,
  "write-protect": (machine, results) =>
    !machine.leafAllowsWrites(0x5000n) &&
    results.some(
      ({ access, fault }) =>
        access.kind === "write" && !access.user && fault === undefined && access.address >> 12n === 5n,
    ),
  stale: (_, results) => {
    const stale = results.findIndex(({ stale, access }) => stale && access.address >> 12n === 6n);
    return (
      stale >= 0 &&
      results.slice(stale).some(({ pa, stale: again }) => !again && pa !== undefined && pa >> 12n === 0x10an)
    );
  },
  "accessed-dirty": (_, results) =>
    results.some(({ flags }) =>
      flags.some(({ flag, entry, address }) => flag === "D" && entry === "PTE" && address === 0x4020n),
    ),
  smep: (machine, results) => {
    const result = last(results);
    return (
      result?.access.kind === "fetch" &&
      !result.access.user &&
      bit(result, bitOf(PFERR, "I")) &&
      machine.probe(result.access.address, USER_FETCH).ok
    );
  },
  reserved: (_, results) => bit(last(results), bitOf(PFERR, "RSVD")),
  large: (_, results) =>
    results.some(
      ({ access, pa, pageSize, rights }) =>
        access.kind === "write" &&
        access.address >> 21n === 2n &&
        pageSize === 2 ** 21 &&
        pa !== undefined &&
        pa >> 21n === 1n &&
        rights?.user === false,
    ),
  pdpte: (_, results) => results.some(({ access, fault }) => access.address === 0x40004000n && fault === undefined),
  "self-map": (machine) => {
    const found = machine.probe(0xffffffffn - 3n, Access.Read);
    return found.ok && found.pa === 0x1ffcn;
  },
};
