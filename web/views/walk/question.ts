/** What is walked, as the URL says it. */
import { ACCESS_KINDS, type SecondStage, type WalkQuestion } from "../../engine/dump/answers.js";
import { addressInUrl } from "../../state/dump/session.js";
import { route } from "../../state/route.js";

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
