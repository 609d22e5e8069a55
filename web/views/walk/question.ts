/** What is walked, as the URL says it. */
import { ACCESS_KINDS, type SecondStage, type WalkQuestion } from "../../engine/dump/answers.js";
import { addressInUrl } from "../../state/dump/session.js";
import { route } from "../../state/route.js";

/** What of the URL is no question, or undefined: it is said, and nothing else is walked in its place. */
export function wrongInUrl(): string | undefined {
  const { params } = route.value;
  const wrong = (name: string, expected: string) => `${name} ${params[name]!.slice(0, 40)}: expected ${expected}`;
  const digits = (name: string, most: number) =>
    params[name] !== undefined && hexOf(params[name], most) === undefined
      ? wrong(name, `up to ${most} hexadecimal digits`)
      : undefined;
  if (params.access !== undefined && !ACCESS_KINDS.some((kind) => kind === params.access))
    return wrong("access", ACCESS_KINDS.join(", "));
  const numbers: readonly (readonly [string, number])[] = [
    ["address", 16],
    ["pkru", 8],
    ["pkrs", 8],
    ["root", 16],
    ["guest", 16],
  ];
  return numbers.map(([name, most]) => digits(name, most)).find((text) => text !== undefined);
}

const hexOf = (text: string | undefined, digits = 16): bigint | undefined =>
  text !== undefined && text.length <= digits && /^[0-9a-f]+$/i.test(text) ? BigInt(`0x${text}`) : undefined;

/** `start`: the address where the URL has none. */
export function questionInUrl(start: bigint): WalkQuestion {
  const { access, user, ac, strict, pkru, pkrs } = route.value.params;
  const number = (text: string | undefined) => {
    const value = hexOf(text, 8);
    return value === undefined ? undefined : Number(value);
  };
  return {
    address: addressInUrl() ?? start,
    access: ACCESS_KINDS.find((kind) => kind === access) ?? "any",
    user: user === "1",
    ac: ac === "1",
    strict: strict === "1",
    pkru: number(pkru),
    pkrs: number(pkrs),
    second: secondInUrl(),
  };
}

export function secondInUrl(): SecondStage | undefined {
  const { stage, root, guest } = route.value.params;
  if (stage !== "ept" && stage !== "npt") return undefined;
  return { kind: stage, root: hexOf(root) ?? 0n, cr3: hexOf(guest) ?? 0n };
}

/** The question as one text, to tell it from another. */
export function questionKey(question: WalkQuestion): string {
  return JSON.stringify(question, (_, value) => (typeof value === "bigint" ? value.toString(16) : value));
}
