/** The comparisons behind check-recordings.ts, one state snapshot at a time. */
import {
  type CpuRole,
  childRole,
  convertRole,
  cpuRole,
  joinCpuRole,
  kvm61DirectRoot,
  kvm61NestedEptRoot,
  kvm61NestedNptRoot,
  kvm61ShadowRoot,
  layoutOf,
  nestedEptCpuRole,
  nestedNptCpuRole,
  ROLE_CR0_WP,
  ROLE_GUEST_LEVEL,
  ROLE_LEVEL_PROMOTED,
  ROLE_PAE_ROOT,
  ROLE_SMAP_ANDNOT_WP,
  ROLE_SMEP_ANDNOT_WP,
  roleAccess,
  roleIsDirect,
  roleIsInvalid,
  roleLevel,
  tdpLevel,
} from "../../src/role/index.js";
import type { Hex, Scenario, Snapshot, Tally } from "./scenario.js";
import { checkSptes, recordedMasks, type SpteContext } from "./spte-checks.js";

const HFLAG_GUEST = 1 << 5;
const HFLAG_SMM = 1 << 6;

const hex = (value: number | bigint): Hex => `0x${value.toString(16)}`;

/**
 * With EPT the guest writes CR0.WP without an exit, and KVM looks at it only before its next walk
 * (__kvm_mmu_refresh_passthrough_bits): a recorded CPU role may hold the previous value.
 */
function onlyWriteProtectDiffers(recorded: Hex, cpu: CpuRole): boolean {
  const difference = BigInt(recorded) ^ joinCpuRole(cpu);
  return difference !== 0n && (difference & ~BigInt(ROLE_CR0_WP | ROLE_SMEP_ANDNOT_WP | ROLE_SMAP_ANDNOT_WP)) === 0n;
}

/** Compares every snapshot of a recording. */
export function checkScenario(scenario: Scenario, tally: Tally, name: string): void {
  const { config } = scenario;
  const tdp = config.npt === 1 || config.ept === 1;
  const level = tdpLevel({
    forced: Number(config.masks.tdp_root_level),
    max: Number(config.masks.max_tdp_level),
    guestMaxPhysAddr: config.guest_maxphyaddr,
  });
  const adBits = BigInt(config.masks.shadow_accessed_mask ?? 0) !== 0n;
  const context: SpteContext = {
    format: config.ept === 1 ? "ept" : tdp ? "npt" : "shadow",
    masks: recordedMasks(scenario),
    tdp,
    maxPageLevel: Number(config.masks.max_huge_page_level),
  };
  const nested = new Map<number, { cpu: CpuRole; root: number }>();
  for (const step of scenario.steps) {
    for (const event of step.events) {
      const vcpu = Number(event.vcpu_id ?? step.snap?.vcpu ?? 0);
      if (event.ev === "init_shadow_npt") {
        const cpu = nestedNptCpuRole({ cr0: Number(event.cr0), cr4: Number(event.cr4), efer: Number(event.efer) });
        nested.set(vcpu, { cpu, root: kvm61NestedNptRoot(cpu, level) });
      } else if (event.ev === "init_shadow_ept") {
        const cpu = nestedEptCpuRole({
          level: ((Number(event.eptp) >> 3) & 7) + 1,
          accessedDirty: Number(event.ad) !== 0,
          executeOnly: Number(event.execonly) !== 0,
        });
        nested.set(vcpu, { cpu, root: kvm61NestedEptRoot(cpu) });
      }
    }
    const { snap } = step;
    if (snap === undefined) continue;
    const where = `${name} step ${step.n}`;
    if (snap.root_mmu) {
      const hflags = Number(snap.hflags);
      const cpu = cpuRole(
        { cr0: Number(snap.cr0), cr4: Number(snap.cr4), efer: Number(snap.efer) },
        { smm: (hflags & HFLAG_SMM) !== 0, guestMode: (hflags & HFLAG_GUEST) !== 0 },
      );
      const root = tdp ? kvm61DirectRoot(cpu, level, adBits) : kvm61ShadowRoot(cpu);
      const use = tdp ? "direct" : "shadow";
      const late = config.ept === 1 && onlyWriteProtectDiffers(snap.root_mmu.cpu_role, cpu);
      if (late) tally.outcome("CPU role, direct, all but a CR0.WP that KVM has not looked at yet", true, () => "");
      else tally.compare(`CPU role, ${use}`, snap.root_mmu.cpu_role, hex(joinCpuRole(cpu)), where);
      tally.compare(`root role, ${use}`, snap.root_mmu.root_role, hex(root), where);
    }
    checkChildRoles(snap, tally, where);
    checkSptes(snap, context, tally, where);
    const guest = nested.get(snap.vcpu);
    if (snap.guest_mmu && guest && snap.guest_mmu.cpu_role !== "0x0") {
      tally.compare("CPU role, nested tables", snap.guest_mmu.cpu_role, hex(joinCpuRole(guest.cpu)), where);
      tally.compare("root role, nested tables", snap.guest_mmu.root_role, hex(guest.root), where);
    }
  }
}

const ADDRESS = 0xffffffffff000n;
const PROJECT_ONLY = ROLE_LEVEL_PROMOTED | ROLE_PAE_ROOT | ROLE_GUEST_LEVEL;

/** Every page that an entry of another page leads to has the child role of that entry. */
function checkChildRoles(snap: Snapshot, tally: Tally, where: string): void {
  const pages = new Map((snap.sps ?? []).map((page) => [BigInt(page.spt), Number(page.role)]));
  for (const page of snap.sps ?? []) {
    const parent = convertRole({ base: Number(page.role) }, layoutOf("5.19"), layoutOf("project")).role.base;
    // A zapped page keeps its entries' children only until they are zapped too.
    if (roleLevel(parent) === 1 || roleIsInvalid(parent)) continue;
    for (const [index, entry] of Object.entries(page.e)) {
      const child = pages.get(BigInt(entry) & ADDRESS);
      if (child === undefined || (BigInt(entry) & 0x80n) !== 0n || roleIsInvalid(child)) continue;
      const computed = childRole(parent, Number(index), roleIsDirect(child), roleAccess(child)) & ~PROJECT_ONLY;
      tally.compare("child role", hex(child), hex(computed >>> 0), `${where} parent ${page.role} entry ${index}`);
    }
  }
}
