/** The checks of rights and protection keys at the leaf of a legacy-format walk. */
import { bitOf } from "../abi/bits.js";
import { PTE } from "../abi/entries.js";
import type { Rights } from "../api.js";
import { entryName } from "../decode/entry.js";
import type { MemoryAccess } from "../reference/access.js";
import { type Found, type Refusal, refusals } from "../reference/permissions.js";
import { keyDenies, protectionKey } from "../reference/protection-keys.js";
import type { Registers } from "../reference/registers.js";
import type { Factor } from "./explanation.js";
import { type CheckLog, ofEntry, ofRegister, type Place } from "./log.js";

/** The entries whose rights count, from the root down; the last one is the leaf. */
export interface WalkPath {
  readonly registers: Registers;
  readonly places: Place[];
}

const BITS = { RW: bitOf(PTE, "RW"), US: bitOf(PTE, "US"), D: bitOf(PTE, "D"), XD: bitOf(PTE, "XD") };

/** Notes every check that the access is subject to. */
export function deniesByRights(
  path: WalkPath,
  translation: Found,
  access: MemoryAccess,
  log: CheckLog,
): { readonly rights: boolean; readonly key: boolean } {
  const { rights } = translation;
  const refused = new Set(refusals(path.registers, translation, access));
  for (const name of subjectTo(path.registers, rights, access)) {
    const passed = !refused.has(name);
    log.add(name, passed, path.places.at(-1)!, factorsOf(name, path, rights, access), TEXTS[name][passed ? 0 : 1]);
  }
  return { rights: refused.size > 0, key: keyRefuses(path, rights, access, log) };
}

/** The checks that an access of this kind has to pass. */
function subjectTo({ stackRule, gmet }: Registers, rights: Rights, access: MemoryAccess): Refusal[] {
  if (access.shadowStack !== undefined) {
    if (stackRule === "pages") return ["shadow stack", access.user ? "user" : "supervisor"];
    if (stackRule === "checked" && access.shadowStack === "supervisor") return ["shadow stack"];
  }
  const names: Refusal[] = [];
  if (gmet) {
    if (access.fetch && !access.user) names.push("gmet");
  } else if (access.user) names.push("user");
  else if (rights.user) names.push(access.fetch ? "smep" : "smap");
  if (access.write) names.push("write");
  if (access.fetch) names.push("execute");
  return names;
}

const TEXTS: Record<Refusal, readonly [passed: string, failed: string]> = {
  "shadow stack": ["a shadow-stack page", "a shadow-stack access to a page that is none"],
  user: ["a user-mode address", "a user-mode access to a supervisor-mode address"],
  supervisor: ["a supervisor-mode address", "a supervisor shadow-stack access to a user-mode address"],
  smep: [
    "supervisor fetches from user-mode addresses are allowed",
    "SMEP: a supervisor fetch from a user-mode address",
  ],
  gmet: [
    "supervisor fetches are allowed where U/S is 0",
    "GMET: a supervisor fetch from a page that is for the user's",
  ],
  smap: ["supervisor accesses to user-mode addresses are allowed", "SMAP: a supervisor access to a user-mode address"],
  write: ["can be written", "a write to a read-only page"],
  execute: ["can be executed", "a fetch from a page with execute-disable"],
};

function factorsOf(name: Refusal, path: WalkPath, rights: Rights, access: MemoryAccess): Factor[] {
  const { registers } = path;
  switch (name) {
    case "shadow stack":
      return stackFactors(path);
    case "user":
    case "supervisor":
      return [granting(path, "US")];
    case "gmet":
      return [granting(path, "US"), ofRegister("VMCB", "GMET", true)];
    case "smep":
      return [granting(path, "US"), ofRegister("CR4", "SMEP", registers.smep)];
    case "smap":
      return [
        granting(path, "US"),
        ofRegister("CR4", "SMAP", registers.smap),
        ...(access.implicit ? [] : [ofRegister("EFLAGS", "AC", access.ac)]),
      ];
    case "write":
      if (access.user || registers.gmet || rights.write) return [granting(path, "RW")];
      return [granting(path, "RW"), ofRegister("CR0", "WP", registers.wp)];
    case "execute":
      return registers.mode === "32bit" ? [] : [disabling(path), ofRegister("EFER", "NXE", registers.nxe)];
  }
}

/** A right that every entry has to grant: of the first entry that does not, else of the leaf. */
function granting(path: WalkPath, name: "RW" | "US"): Factor {
  const refusing = path.places.find(({ entry }) => (entry & BITS[name]) === 0n);
  return ofEntry(refusing ?? path.places.at(-1)!, name, refusing === undefined ? 1n : 0n);
}

/** What makes the page a shadow-stack page or not: of the first bits that are wrong, else of all that count in the leaf. */
function stackFactors({ registers, places }: WalkPath): Factor[] {
  const leaf = places.at(-1)!;
  const readOnly = places.slice(0, -1).find(({ entry }) => (entry & BITS.RW) === 0n);
  if (readOnly !== undefined) return [ofEntry(readOnly, "RW", 0n)];
  const names = registers.stackRule === "pages" ? (["RW", "D"] as const) : (["XD", "US"] as const);
  return names.map((name) => ofEntry(leaf, name, (leaf.entry & BITS[name]) === 0n ? 0n : 1n));
}

function disabling(path: WalkPath): Factor {
  const refusing = path.places.find(({ entry }) => (entry & BITS.XD) !== 0n);
  return ofEntry(refusing ?? path.places.at(-1)!, "XD", refusing === undefined ? 0n : 1n);
}

/** Protection keys (SDM vol. 3, "Protection Keys"), where they are on for an address of this kind. */
function keyRefuses(path: WalkPath, rights: Rights, access: MemoryAccess, log: CheckLog): boolean {
  const { registers } = path;
  const leaf = path.places.at(-1)!;
  const long = registers.mode === "4level" || registers.mode === "5level";
  if (!long || access.fetch || !(rights.user ? registers.pke : registers.pks)) return false;
  const key = protectionKey(registers, leaf.entry);
  const denied = keyDenies(registers, key, rights.user, access);
  const [register, value, enable] = rights.user
    ? (["PKRU", registers.pkru, "PKE"] as const)
    : (["PKRS", registers.pkrs, "PKS"] as const);
  const bit = (offset: number) => ((value >>> (2 * key + offset)) & 1) === 1;
  const factors = [
    ofEntry(leaf, "PKEY", BigInt(key)),
    ofRegister("CR4", enable, true),
    ofRegister(register, `AD${key}`, bit(0)),
  ];
  if (access.write && !bit(0)) {
    factors.push(ofRegister(register, `WD${key}`, bit(1)));
    if (!access.user && bit(1)) factors.push(ofRegister("CR0", "WP", registers.wp));
  }
  const silent = !rights.user && access.user && !registers.pkrsOnUserAccess && bit(0);
  if (silent) factors.push(ofRegister("CPU", "PKRS_ON_USER_ACCESS", false));
  const text = denied
    ? `key ${key} of the ${entryName(leaf.level)} denies it`
    : `key ${key} of the ${entryName(leaf.level)} ${silent ? "is not reported" : "allows it"}`;
  log.add("protection key", !denied, leaf, factors, text);
  return denied;
}
