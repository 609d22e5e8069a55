/** The configuration of the virtual machine that a recording needs. */
import { flagOf } from "../../abi/bits.js";
import { CPUID_EXTENDED, CPUID_EXTENDED_EDX } from "../../abi/processor.js";
import type { Recording } from "../format/recording.js";
import { hostRanges } from "../world/guest-memory.js";
import type { ReplayVmConfig } from "./target.js";

const EDX = 3;
const PAGE_1G = flagOf(CPUID_EXTENDED_EDX, "PAGE_1G");
const NX = flagOf(CPUID_EXTENDED_EDX, "NX");

/** The virtual machine that a recording needs. */
export function vmConfigOf(recording: Recording): ReplayVmConfig {
  const { config } = recording;
  const cleared = recording.cpuidEdits
    .filter((edit) => edit.fn === CPUID_EXTENDED && edit.register === EDX)
    .reduce((bits, edit) => bits | (edit.clear & ~edit.set), 0);
  return {
    kernel: config.kernel,
    paging: config.ept ? "ept" : config.npt ? "npt" : "shadow",
    vendor: config.intel ? "intel" : "amd",
    tdpMmu: config.tdpMmu,
    eptAccessedDirty: config.ept && config.eptAccessedDirty,
    pml: config.ept && config.pml,
    // The configuration's name is the only place that says so.
    nxHugePages: config.cfg.split("-").includes("nx"),
    nested: config.nested,
    host: { la57: config.hostLa57, maxPhysAddr: config.hostMaxPhysAddr },
    guest: { maxPhysAddr: config.guestMaxPhysAddr, page1g: (cleared & PAGE_1G) === 0, nx: (cleared & NX) === 0 },
    masks: config.masks,
    pdpteAccessedAllowed: config.pdpteAccessedAllowed,
    manualDirtyLog: config.manualDirtyLog,
    hostRanges: hostRanges(recording),
  };
}
