/** What the playground's page asks of its worker: one machine, its exercise, and what it shows after each act. */
import { type Core, loadSync } from "x86-paging";
import { CHECKS } from "./exercises.js";
import type { ShadowResult } from "./kvm-shadow.js";
import { type PlayAccess, PlayMachine, type PlayResult, type PlayState } from "./machine.js";
import { type Registers, setupOf } from "./setup.js";

/** What a user does. */
export type PlayAct =
  /** Another machine: what a link says. */
  | { readonly do: "begin"; readonly link: Readonly<Record<string, string>>; readonly exercise?: string | undefined }
  | { readonly do: "access"; readonly access: PlayAccess }
  | { readonly do: "entry"; readonly address: number; readonly entry: bigint }
  | { readonly do: "register"; readonly name: keyof Registers; readonly value: bigint }
  | { readonly do: "invlpg"; readonly address: bigint };

/** What is shown after an act. */
export interface PlayShown extends PlayState {
  /** What KVM's shadow MMU made of the last access; undefined before there is one, or where KVM would refuse the registers. */
  readonly shadow: ShadowResult | undefined;
  /** The registers that the last access was made with. */
  readonly before: Registers | undefined;
  /** Something was done to the machine since the last access. */
  readonly outdated: boolean;
  readonly exercise: string | undefined;
  readonly solved: boolean;
}

/** So many accesses are kept for exercises. */
const KEPT = 200;

const NOTHING_SEEN = { shadow: undefined, before: undefined, outdated: false };

export class PlaySession {
  readonly #core: Core = loadSync();
  #machine: PlayMachine | undefined;
  #exercise: string | undefined;
  #results: PlayResult[] = [];
  #solved = false;
  /** What the last access showed: what is changed later does not change it. */
  #seen: Pick<PlayShown, "shadow" | "before" | "outdated"> = NOTHING_SEEN;

  /** Throws what the machine refuses, with nothing changed. */
  act(act: PlayAct): PlayShown {
    if (act.do === "begin") this.#begin(act.link, act.exercise);
    const machine = this.#machine;
    if (machine === undefined) throw new Error("expected a machine to begin with");
    if (act.do === "access") {
      this.#results = [...this.#results, machine.access(act.access)].slice(-KEPT);
      this.#seen = { shadow: this.#shadow(machine), before: machine.state.registers, outdated: false };
    }
    if (act.do === "entry") machine.setEntry(act.address, act.entry);
    if (act.do === "register") machine.setRegister(act.name, act.value);
    if (act.do === "invlpg") machine.invlpg(act.address);
    if (act.do === "entry" || act.do === "register" || act.do === "invlpg")
      this.#seen = { ...this.#seen, outdated: true };
    const check =
      this.#exercise !== undefined && Object.hasOwn(CHECKS, this.#exercise) ? CHECKS[this.#exercise] : undefined;
    this.#solved ||= check?.(machine, this.#results) ?? false;
    return { ...machine.state, ...this.#seen, exercise: this.#exercise, solved: this.#solved };
  }

  #begin(link: Readonly<Record<string, string>>, exercise: string | undefined): void {
    const machine = new PlayMachine(this.#core, setupOf(link));
    this.#machine?.dispose();
    this.#machine = machine;
    this.#exercise = exercise;
    this.#results = [];
    this.#solved = false;
    this.#seen = NOTHING_SEEN;
  }

  #shadow(machine: PlayMachine): ShadowResult | undefined {
    const access = machine.state.result?.access;
    if (access === undefined || machine.mode === "none") return undefined;
    try {
      return machine.shadow([access]);
    } catch {
      return undefined;
    }
  }
}
