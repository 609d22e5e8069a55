/** As much of vitest as the suites of the walk use, so that they run in a thread that is there already. */
import { JestAsymmetricMatchers, JestChaiExpect, JestExtend } from "@vitest/expect";
import * as chai from "chai";

type Body = (...values: unknown[]) => unknown;

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);

export const expect = chai.expect;

const tests: { readonly name: string; readonly body: () => unknown }[] = [];

export function describe(_name: string, body: () => void): void {
  body();
}

export function it(name: string, ...rest: unknown[]): void {
  tests.push({ name, body: rest.at(-1) as Body });
}

it.each =
  (table: readonly unknown[]) =>
  (name: string, ...rest: unknown[]): void => {
    const body = rest.at(-1) as Body;
    for (const row of table) tests.push({ name, body: () => (Array.isArray(row) ? body(...row) : body(row)) });
  };

/** Runs what was declared, in order; the first failure, or undefined. */
export async function firstFailure(): Promise<string | undefined> {
  if (tests.length === 0) throw new Error("no test was declared");
  for (const { name, body } of tests) {
    try {
      await body();
    } catch (error) {
      return `${name}: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
  return undefined;
}
