/** Writes VMware's state files: struct cptdumpheader, struct cptgroupdesc and tags, as crash's vmware_vmss.h has them. */
import { concat } from "../builders.js";

export interface VmssTag {
  name: string;
  indices?: number[];
  value: Uint8Array;
  /** A block has its size, its size in memory and padding before its bytes. */
  block?: "plain" | "compressed";
  padding?: number;
}

const bytes32 = (value: number) => new Uint8Array(Uint32Array.of(value).buffer);
const bytes64 = (value: bigint) => new Uint8Array(BigUint64Array.of(value).buffer);

/** A value of 32 bits. */
export function tag32(name: string, indices: number[], value: number): VmssTag {
  return { name, indices, value: bytes32(value) };
}

/** A value of 64 bits. */
export function tag64(name: string, indices: number[], value: bigint): VmssTag {
  return { name, indices, value: bytes64(value) };
}

/** Regions in pages: where they are in the file, in memory, and how many. */
export function regionTags(regions: readonly { file: number; memory: number; pages: number }[]): VmssTag[] {
  return [
    tag32("regionsCount", [], regions.length),
    ...regions.flatMap(({ file, memory, pages }, i) => [
      tag32("regionPageNum", [i], file),
      tag32("regionPPN", [i], memory),
      tag32("regionSize", [i], pages),
    ]),
  ];
}

/** Control registers of a processor, one value each. */
export function crTags(cpu: number, registers: readonly bigint[]): VmssTag[] {
  return registers.map((value, index) => tag64("CR64", [cpu, index], value));
}

function tagBytes({ name, indices = [], value, block, padding = 0 }: VmssTag, old: boolean): Uint8Array {
  const size = block === undefined ? value.length : block === "plain" ? 0x3f : 0x3e;
  const width = old ? bytes32 : (length: number) => bytes64(BigInt(length));
  return concat(
    Uint8Array.of((indices.length << 6) | size, name.length),
    new TextEncoder().encode(name),
    ...indices.map(bytes32),
    ...(block === undefined
      ? []
      : [
          width(value.length),
          width(value.length),
          Uint8Array.of(padding & 0xff, padding >> 8),
          new Uint8Array(padding).fill(0xaa),
        ]),
    value,
  );
}

/** A state file of these groups; `end` false leaves out the two zero bytes behind the last one. */
export function vmss(
  groups: Readonly<Record<string, readonly VmssTag[]>>,
  { magic = 0xbed2bed2, end = true }: { magic?: number; end?: boolean } = {},
): Uint8Array {
  const names = Object.keys(groups);
  const bodies = names.map((name, i) =>
    concat(
      ...groups[name]!.map((tag) => tagBytes(tag, magic === 0xbed0bed0)),
      new Uint8Array(end || i < names.length - 1 ? 2 : 0),
    ),
  );
  let at = 12 + names.length * 80;
  const table = names.map((name, i) => {
    const entry = new Uint8Array(80);
    entry.set(new TextEncoder().encode(name));
    entry.set(bytes64(BigInt(at)), 64);
    entry.set(bytes64(BigInt(bodies[i]!.length)), 72);
    at += bodies[i]!.length;
    return entry;
  });
  return concat(bytes32(magic), bytes32(8), bytes32(names.length), ...table, ...bodies);
}
