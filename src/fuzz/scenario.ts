/** One case of the differential test as plain data: memory contents, address spaces and accesses. */
import type { AddressSpaceConfig, EptConfig, NptConfig } from "../api.js";

/** One table entry to place in physical memory before anything is created. */
export interface EntryWrite {
  readonly address: bigint;
  readonly value: bigint;
  readonly bytes: 4 | 8;
}

/** An address to translate and the Access flags to do it with. */
export interface AccessStep {
  readonly address: bigint;
  readonly access: number;
}

/** A slot of the guest memory. */
export interface SlotRange {
  readonly gpa: bigint;
  readonly size: number;
  readonly readOnly: boolean;
}

/** The second stage of a scenario. */
export type SecondStage =
  | { readonly kind: "ept"; readonly config: EptConfig }
  | { readonly kind: "npt"; readonly config: NptConfig };

/** Tables, registers and accesses that both engines are asked about. */
export interface Scenario {
  readonly slots: readonly SlotRange[];
  readonly entries: readonly EntryWrite[];
  /** Absent: the accesses go to the second stage directly. */
  readonly guest: Omit<AddressSpaceConfig, "secondStage"> | undefined;
  readonly second: SecondStage | undefined;
  readonly accesses: readonly AccessStep[];
}

/** The scenario as a literal that can be pasted into a test. */
export function formatScenario(scenario: Scenario): string {
  return format(scenario, "");
}

function format(value: unknown, indent: string): string {
  if (typeof value === "bigint") return `0x${value.toString(16)}n`;
  if (typeof value === "number") return value > 9 ? `0x${value.toString(16)}` : `${value}`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "undefined";
  const deeper = `${indent}  `;
  const isArray = Array.isArray(value);
  const parts = isArray
    ? value.map((one) => format(one, deeper))
    : Object.entries(value).map(([key, one]) => `${key}: ${format(one, deeper)}`);
  const [open, close] = isArray ? ["[", "]"] : ["{", "}"];
  const line = `${open}${isArray ? "" : " "}${parts.join(", ")}${isArray ? "" : " "}${close}`;
  if (parts.length === 0) return `${open}${close}`;
  return line.length < 100 ? line : `${open}\n${deeper}${parts.join(`,\n${deeper}`)},\n${indent}${close}`;
}
