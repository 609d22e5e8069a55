/** As much of vitest as the suites use that judge mistakes in the core, so that they run in a thread that is there already. */
import { JestAsymmetricMatchers, JestChaiExpect, JestExtend } from "@vitest/expect";
import * as chai from "chai";

type Body = (...values: unknown[]) => unknown;
type Hook = () => unknown;

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);

export const expect = chai.expect;

const tests: { readonly name: string; readonly before: readonly Hook[]; readonly body: () => unknown }[] = [];
/** Of the groups that are being declared, outermost first. */
let before: readonly Hook[] = [];

/** Options stand before the body, a time limit behind it. */
const bodyOf = (rest: readonly unknown[]) => rest.find((one) => typeof one === "function") as Body;

export function describe(_name: string, ...rest: unknown[]): void {
  group(bodyOf(rest));
}

function group(body: Hook): void {
  const outer = before;
  body();
  before = outer;
}

const spread = (body: Body, row: unknown) => () => (Array.isArray(row) ? body(...row) : body(row));

describe.each =
  (table: readonly unknown[]) =>
  (_name: string, ...rest: unknown[]): void => {
    for (const row of table) group(spread(bodyOf(rest), row));
  };

export function beforeEach(hook: Hook): void {
  before = [...before, hook];
}

export function it(name: string, ...rest: unknown[]): void {
  tests.push({ name, before, body: bodyOf(rest) });
}

it.each =
  (table: readonly unknown[]) =>
  (name: string, ...rest: unknown[]): void => {
    for (const row of table) tests.push({ name, before, body: spread(bodyOf(rest), row) });
  };

export const test = it;

/** Runs what was declared, in order; the first failure, or undefined. */
export async function firstFailure(): Promise<string | undefined> {
  if (tests.length === 0) throw new Error("no test was declared");
  for (const one of tests) {
    try {
      for (const hook of one.before) await hook();
      await one.body();
    } catch (error) {
      return `${one.name}: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
  return undefined;
}
