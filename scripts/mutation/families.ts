/** Families of named constants, in which one is easily taken for another. */
import { Access, CODES, Status } from "../../src/abi/index.js";

/** What to put in place of a constant: the value of the next one of its family. */
export type Sibling = (name: string, of: string | undefined) => string | undefined;

/** Families of the core's constants: those of assembly/abi, one for each heading or common prefix. */
export function assemblyFamilies(files: readonly string[]): Sibling {
  const next = new Map<string, string>();
  for (const text of files) {
    const headings = text.split(/\n\/\/ [^@\n]*\n(?=[/@])/);
    for (const heading of headings) {
      const constants = [...heading.matchAll(/const (\w+): (\w+) = (\w+);/g)]
        .map(([, name, type, value]) => ({ name: name!, value: `(<${type}>${value})` }))
        .filter(({ name }) => !name.endsWith("_SHIFT"));
      for (const prefix of new Set(constants.map(({ name }) => prefixOf(name)))) {
        const family = constants.filter(({ name }) => prefixOf(name) === prefix);
        if (family.length < 2) continue;
        family.forEach(({ name }, index) => {
          next.set(name, family[(index + 1) % family.length]!.value);
        });
      }
    }
  }
  return (name) => next.get(name);
}

/** Families of the host's: members of Status and Access, and codes of a common prefix. */
export function hostSibling(name: string, of: string | undefined): string | undefined {
  if (of === "Status") return nextOf(Object.keys(Status), name);
  if (of === "Access") return nextOf(Object.keys(Access), name);
  if (of !== "CODES") return undefined;
  const family = Object.keys(CODES).filter((one) => prefixOf(one) === prefixOf(name));
  return nextOf(family, name);
}

function prefixOf(name: string): string {
  return name.split("_")[0]!;
}

function nextOf(names: readonly string[], name: string): string | undefined {
  const index = names.indexOf(name);
  return index < 0 || names.length < 2 ? undefined : names[(index + 1) % names.length];
}
