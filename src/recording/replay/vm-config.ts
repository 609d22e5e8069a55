/** The configuration of the virtual machine that a recording needs. */
import type { Recording } from "../format/recording.js";
import { hostRanges } from "../world/guest-memory.js";
import type { ReplayVmConfig } from "./target.js";

const EXTENDED_FEATURES = 0x80000001;
const EDX = 3;
const PAGE_1G = 1 << 26;
const NX = 1 << 20;

/** The virtual machine that a recording needs. */
export function vmConfigOf(recording: Recording): ReplayVmConfig {
  const { config } = recording;
  const cleared = recording.cpuidEdits
    .filter((edit) => edit.fn === EXTENDED_FEATURES && edit.register === EDX)
    .reduce((bits, edit) => bits | (edit.clear & ~edit.set), 0);
  return {
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
