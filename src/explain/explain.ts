/** Why an access is translated or faults, check by check. */
import { Access } from "../abi/access.js";
import { bitOf } from "../abi/bits.js";
import { PFERR } from "../abi/faults.js";
import type { AddressSpace, AddressSpaceConfig, Fault, SpaceConfiguration, U64, Walk } from "../api.js";
import { UnsupportedError } from "../errors.js";
import { decodeAccess, type MemoryAccess } from "../reference/access.js";
import { readEptConfig } from "../reference/ept-format.js";
import { nonCanonical, pageFault, separated } from "../reference/faults.js";
import { formatOf } from "../reference/formats.js";
import { linearAddress, violatesSeparation } from "../reference/linear-address.js";
import { nestedAccess, nestedFault, nestedRegisters, nptEnd } from "../reference/npt-stage.js";
import { seenBy } from "../reference/permissions.js";
import { type Registers, readRegisters } from "../reference/registers.js";
import type { StageAccess } from "../reference/second-stage.js";
import { codeBits } from "./code.js";
import { eptExplainer } from "./ept.js";
import type { Explanation } from "./explanation.js";
import { explainLegacy, type LegacyStage } from "./legacy.js";
import { CheckLog, nowhere, ofRegister } from "./log.js";
import type { ExplainStage, StageOutcome } from "./second-stage.js";

/**
 * Explains one access of `space` (of any engine that tells its `configuration`): the checks in the processor's order, each
 * with the entry and register bits that decide it, and each bit of the error code with its reason. Changes nothing.
 *
 * Throws UnsupportedError for a space that does not tell its configuration; for the address and the access what
 * `AddressSpace.walk` throws; RangeError where the walk's entries are not those that the rules ask for.
 */
export function explain(space: AddressSpace, address: U64, access: number = Access.Read): Explanation {
  const { configuration } = space;
  if (configuration === undefined) throw new UnsupportedError("this space does not tell its configuration");
  const walk = space.walk(address, access);
  const log = new CheckLog(walk.steps);
  const decoded = decodeAccess(access);
  const verdict =
    configuration.kind === "guest"
      ? explainGuest(configuration.config, walk.address, decoded, log)
      : explainDirect(configuration, walk.address, decoded, log);
  requireSame(walk, verdict);
  const deciding = log.checks.find((check) => !check.passed);
  const code =
    walk.result.ok || deciding === undefined
      ? []
      : codeBits({
          fault: walk.result,
          deciding,
          checks: log.checks,
          ...stageAtFault(configuration, walk.result, decoded),
        });
  return { walk, checks: log.checks, deciding, code };
}

type Verdict = { readonly ok: true; readonly pa: bigint } | { readonly ok: false; readonly fault: Fault };

/** What the checks conclude is what the walk found, or the explanation would be of something else. */
function requireSame({ result, address }: Walk, verdict: Verdict): void {
  const same = verdict.ok ? result.ok && result.pa === verdict.pa : !result.ok && sameFault(result, verdict.fault);
  if (same) return;
  const shown = verdict.ok ? `0x${verdict.pa.toString(16)}` : `status ${verdict.fault.status}`;
  throw new RangeError(`the walk of 0x${address.toString(16)} is not what its checks say (${shown})`);
}

function sameFault(a: Fault, b: Fault): boolean {
  return (
    a.status === b.status &&
    a.errorCode === b.errorCode &&
    a.address === b.address &&
    a.stage === b.stage &&
    a.level === b.level &&
    a.entryAddress === b.entryAddress &&
    a.entry === b.entry
  );
}

function explainGuest(config: AddressSpaceConfig, address: bigint, access: MemoryAccess, log: CheckLog): Verdict {
  const registers = readRegisters(config);
  if (!isInOwnHalf(registers, access, address, log)) return { ok: false, fault: separated(address) };
  const linear = linearAddress(registers, access, address);
  const long = registers.mode === "4level" || registers.mode === "5level";
  if (long) {
    const factors = [ofRegister("CR4", "LA57", registers.mode === "5level"), ...masking(registers, address)];
    const text = linear === undefined ? "not canonical" : "canonical";
    log.add("canonical", linear !== undefined, nowhere("guest"), factors, text);
  }
  if (linear === undefined) return { ok: false, fault: nonCanonical(address) };
  const second = config.secondStage === undefined ? undefined : secondStage(config.secondStage);
  const stage: LegacyStage = {
    registers,
    format: formatOf(registers),
    stage: "guest",
    latched: (config.pdptes ?? "latched") === "latched",
    second,
  };
  const outcome = explainLegacy(stage, linear, access, log);
  if (!outcome.ok || second === undefined) return outcome;
  const final: StageAccess = {
    purpose: "final",
    write: access.write,
    fetch: access.fetch,
    user: access.user,
    userAddress: outcome.rights.user,
    guestRights: outcome.rights,
    shadowStack: seenBy(registers, access).shadowStack,
    kvm: registers.rules === "kvm-6.1",
  };
  return second(outcome.pa, final, log);
}

/** Linear-address-space separation, where it concerns the access. */
function isInOwnHalf(registers: Registers, access: MemoryAccess, address: bigint, log: CheckLog): boolean {
  if (!registers.lass) return true;
  const passed = !violatesSeparation(registers, access, address);
  const factors = [ofRegister("CR4", "LASS", true)];
  if (!access.user && !access.fetch) {
    factors.push(ofRegister("CR4", "SMAP", registers.smap));
    if (!access.implicit) factors.push(ofRegister("EFLAGS", "AC", access.alignmentCheck));
  }
  const half = address >> 63n === 1n ? "supervisor-mode" : "user-mode";
  const text = `${passed ? "an access to" : "LASS: an access to"} the ${half} half of the addresses`;
  return log.add("separation", passed, nowhere("guest"), factors, text);
}

/** Registers of linear-address masking that apply to the address's half. */
function masking(registers: Registers, address: bigint) {
  if (registers.uai) return [ofRegister("EFER", "UAIE", true)];
  if (address >> 63n === 1n) return registers.lamSup ? [ofRegister("CR4", "LAM_SUP", true)] : [];
  if (registers.lamU57) return [ofRegister("CR3", "LAM_U57", true)];
  return registers.lamU48 ? [ofRegister("CR3", "LAM_U48", true)] : [];
}

type SecondConfiguration = Exclude<SpaceConfiguration, { kind: "guest" }>;

function explainDirect(
  configuration: SecondConfiguration,
  address: bigint,
  access: MemoryAccess,
  log: CheckLog,
): Verdict {
  const { write, fetch, user, shadowStack } = access;
  const direct: StageAccess = { purpose: "direct", write, fetch, user, userAddress: user, shadowStack, kvm: false };
  return explainerOf(configuration)(address, direct, log);
}

function secondStage(space: AddressSpace): ExplainStage {
  const { configuration } = space;
  if (configuration === undefined || configuration.kind === "guest") {
    throw new UnsupportedError("the second stage does not tell its configuration");
  }
  return explainerOf(configuration);
}

function explainerOf(configuration: SecondConfiguration): ExplainStage {
  if (configuration.kind === "ept") return eptExplainer(readEptConfig(configuration.config));
  const registers = nestedRegisters(configuration.config);
  const stage: LegacyStage = {
    registers,
    format: formatOf(registers),
    stage: "second",
    latched: false,
    second: undefined,
  };
  return (gpa, access, log) => explainNpt(stage, gpa, access, log);
}

/** APM vol. 2, "Nested Paging": a legacy format, walked with the host's registers as a user. */
function explainNpt(stage: LegacyStage, gpa: bigint, access: StageAccess, log: CheckLog): StageOutcome {
  const { registers } = stage;
  const nested = nestedAccess(registers, access);
  const fits = gpa < nptEnd(stage);
  const width = stage.format?.width ?? 32;
  const modes = [ofRegister("hCR4", "LA57", registers.mode === "5level")];
  if (!log.add("width", fits, nowhere("second"), modes, `NPT of this format translates ${width} bits`)) {
    const site = nowhere("second", stage.format?.levels[0]?.level ?? 0);
    const fault = pageFault(registers, nested, gpa, site, "notPresent");
    return { ok: false, fault: nestedFault(registers, fault, access) };
  }
  const outcome = explainLegacy(stage, gpa, nested, log);
  if (!outcome.ok) return { ok: false, fault: nestedFault(registers, outcome.fault, access) };
  return { ok: true, pa: outcome.pa, unwritable: undefined };
}

/** The access as the stage at fault sees it, and what its registers say of reporting fetches. */
function stageAtFault(configuration: SpaceConfiguration, fault: Fault, access: MemoryAccess) {
  const own = configuration.kind === "guest" && fault.stage === "second" ? configuration.config.secondStage : undefined;
  const at = own?.configuration ?? configuration;
  if (at.kind === "ept") return { access, smep: false, gmet: false, nxe: false };
  const registers = at.kind === "guest" ? readRegisters(at.config) : nestedRegisters(at.config);
  const seen =
    at.kind === "guest" ? access : { ...access, user: (fault.errorCode & bitOf(PFERR, "U")) !== 0n, implicit: false };
  return { access: seen, smep: registers.smep, gmet: registers.gmet, nxe: registers.nxe };
}
