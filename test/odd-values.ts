/** Arguments that no caller should pass, and what a public function may answer to them. */
import { expect } from "vitest";
import { PagingError } from "../src/errors.js";

/** What the iterator of an argument throws: it comes back as it is. */
class IteratorError extends Error {}

const iterator = (): never => {
  throw new IteratorError("the iterator fails");
};
const trap = (): never => {
  throw new Error("an argument's own code was run");
};
const everyTrap = Object.fromEntries(
  Object.getOwnPropertyNames(Reflect).map((name) => [name, trap]),
) as ProxyHandler<object>;

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

/** By what they are. None of them is a number, a bigint, a flag or a configuration that anything takes for all it says. */
export const ODD_VALUES: readonly (readonly [name: string, value: unknown])[] = [
  ["a symbol", Symbol("odd")],
  ["null", null],
  ["NaN", Number.NaN],
  ["Infinity", Number.POSITIVE_INFINITY],
  ["a negative number", -1],
  ["a fraction", 0.5],
  ["a number beyond 2^53", 2 ** 60],
  ["a string", "1"],
  ["a negative bigint", -1n],
  ["a bigint of 65 bits", 1n << 64n],
  ["a flag", true],
  ["a function", () => 0],
  ["an array", []],
  ["an array with a symbol", [Symbol("odd")]],
  ["an object", {}],
  ["an object without a prototype", Object.create(null)],
  ["an object that is a number when asked", { valueOf: () => 1 }],
  ["an object that cannot be made a number", { valueOf: trap, toString: trap, [Symbol.toPrimitive]: trap }],
  ["an object with an iterator that throws", { [Symbol.iterator]: iterator }],
  ["a proxy of which everything throws", new Proxy({}, everyTrap)],
  ["a proxy of a function of which everything throws", new Proxy(() => 0, everyTrap)],
  ["a revoked proxy", revoked()],
];

/**
 * Calls `use` with each odd value: it may be taken for what it is, or refused with an error of this package's own (typed, or
 * a RangeError or TypeError that says what was expected). Only what iterating throws passes through.
 */
export function expectTypedAnswers(name: string, use: (odd: never) => unknown): void {
  for (const [kind, odd] of ODD_VALUES) {
    let thrown: unknown;
    try {
      use(odd as never);
    } catch (error) {
      thrown = error;
    }
    if (thrown === undefined || thrown instanceof PagingError || thrown instanceof IteratorError) continue;
    const own = (thrown instanceof RangeError || thrown instanceof TypeError) && /expected/.test(thrown.message);
    expect(own ? "" : `${thrown}`, `${name} with ${kind}`).toBe("");
  }
}

/** The methods of a class, inherited ones too, getters apart. */
export function methodsOf(type: { readonly prototype: object }): string[] {
  const names = new Set<string>();
  for (let one = type.prototype; one !== Object.prototype; one = Object.getPrototypeOf(one)) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(one))) {
      if (typeof value === "function" && name !== "constructor") names.add(name);
    }
  }
  return [...names].sort();
}
