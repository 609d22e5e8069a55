/** What the built-in examples do: each as a script for one guest, played on one machine or on two that differ in a setting. */
import type { Core } from "x86-paging";
import { bitOf, CR4, fieldOf, PFERR } from "x86-paging/abi";
import {
  type ControlRegisters,
  type SecondStage,
  type Vcpu,
  VirtualMachine,
  type VirtualMachineConfig,
} from "x86-paging/mmu";
import { printEvent, TEXT_KINDS } from "x86-paging/recording";
import { layoutOf } from "x86-paging/role";
import { pictureOfVm } from "./from-vm.js";
import type { Picture } from "./picture.js";
import type { StoryId } from "./story-list.js";

/** What a script has in its hands. */
interface Guest {
  readonly vm: VirtualMachine;
  readonly vcpu: Vcpu;
  readonly config: VirtualMachineConfig;
  /** Writes a word of the guest's memory, as the host may: nobody is told. */
  set(gpa: bigint, word: bigint): void;
}

/** One step: what is done, in words, and what comes of it. */
interface Act {
  readonly title: string;
  readonly note?: string;
  readonly run: (guest: Guest) => string;
}

interface Story {
  readonly sides: readonly { readonly name: string; readonly config: VirtualMachineConfig }[];
  readonly registers: ControlRegisters;
  readonly begin: (guest: Guest) => void;
  readonly acts: readonly Act[];
}

/** A step of a story, on one of its machines. */
export interface ToldStep {
  readonly title: string;
  readonly note: string;
  /** For each side: what came of it, the kernel's trace, the picture. */
  readonly sides: readonly { readonly result: string; readonly events: readonly string[]; readonly picture: Picture }[];
}

const SIZE = 16 << 20;
const FULL = 7n; // present, writable, user
// Error codes of user accesses to what is not mapped yet.
const READ = Number(bitOf(PFERR, "U"));
const WRITE = READ | Number(bitOf(PFERR, "W"));
const FETCH = Number(bitOf(PFERR, "I"));
const PRESENT = Number(bitOf(PFERR, "P"));
/** Where cr4_pae was. */
const STALE_BIT = 1 << fieldOf(layoutOf("5.0").base, "cr4_pae").low;

const LONG: ControlRegisters = { cr0: 0x80010001n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n };
const LEGACY: ControlRegisters = { cr0: 0x80010001n, cr3: 0x1000n, cr4: 0x10n, efer: 0n };

const fault = (title: string, address: bigint, code: number, note?: string): Act => ({
  title,
  ...(note === undefined ? {} : { note }),
  run: ({ vcpu }) => vcpu.pageFault(address, code).result,
});

/** Four levels at 0x1000: linear 0x5000 is a page, 0x6000 the page table itself. */
function longTables({ set }: Guest): void {
  for (const table of [0x1000n, 0x2000n, 0x3000n]) set(table, (table + 0x1000n) | FULL);
  set(0x4028n, 0x5000n | FULL);
  set(0x4030n, 0x4000n | FULL);
}

const NPT: SecondStage = { kind: "npt", ncr3: 0x10000n, hostCr4: 0x20n, hostEfer: 0xd00n };
const ALIAS = 1n << 40n;
const hex = (word: number) => `0x${word.toString(16)}`;

const enter: Act = {
  title: "The guest is entered: a root is loaded",
  run: ({ vcpu }) => (vcpu.enterGuest() ? "entered" : "triple fault"),
};

const nestedRound = (round: number): Act[] => [
  {
    title: `Round ${round}: VMRUN, L2 is entered`,
    run: ({ vcpu }) => {
      vcpu.enterNested(LONG, NPT);
      return vcpu.enterGuest() ? "entered" : "triple fault";
    },
  },
  {
    title: `Round ${round}: L2 exits to L1`,
    note: "L1's direct root is looked for among L1's roots, by its pgd and its whole role word.",
    run: ({ vm, vcpu, config }) => {
      const l1 = () => vcpu.roots().find(({ context }) => context === "root_mmu")!;
      const { current, misses } = l1();
      const stored = vm.allPages().find(({ pointer }) => pointer === current?.page)!.role;
      vcpu.exitNested(LONG);
      const wanted = (stored | (config.staleDirectRoleBits ?? 0)) >>> 0;
      const roles = `wanted is role ${hex(wanted)}, the root at hand has ${hex(stored)}`;
      const found =
        l1().misses === misses
          ? `Found: ${roles}`
          : `Not found: ${roles}; bit 4 (cr4_pae) differs, which stored pages drop, so it never matches`;
      return `${found}. ${vcpu.enterGuest() ? "Entered" : "Triple fault"}.`;
    },
  },
];

const SCRIPTS: Readonly<Record<StoryId, Story>> = {
  "guest-32bit": {
    sides: [
      { name: "shadow tables as deep as PAE's", config: { paging: "shadow" } },
      { name: "a host whose tables have four levels", config: { paging: "shadow", minimumRootLevel: 4 } },
    ],
    registers: LEGACY,
    begin: ({ set }) => {
      // Two directory entries: linear 0 and 0xc0000000; entries have 4 bytes.
      set(0x1000n, 0x2007n);
      set(0x1c00n, 0x3007n);
      set(0x2010n, 0x5007n << 32n);
      set(0x3000n, 0x6007n);
    },
    acts: [
      enter,
      fault(
        "A read of 0x5000",
        0x5000n,
        READ,
        "The guest's directory is shadowed in four pages, one for each quadrant of its entries; only those that are needed are made.",
      ),
      fault("A write to 0x5000", 0x5000n, WRITE, "The entry becomes writable once the guest's dirty flag is set."),
      fault("A read of 0xc0000000: another quadrant", 0xc0000000n, READ),
    ],
  },
  unsync: {
    sides: [{ name: "shadow paging", config: { paging: "shadow" } }],
    registers: LONG,
    begin: longTables,
    acts: [
      enter,
      fault("A read of 0x5000: every level is made", 0x5000n, READ),
      fault(
        "A read of 0x6000, the page table itself",
        0x6000n,
        READ,
        "It is mapped read-only although the guest's entry is writable: it is shadowed.",
      ),
      fault(
        "A write to 0x6000",
        0x6000n,
        WRITE | PRESENT,
        "The page goes out of sync (kvm_mmu_unsync_page), and the guest writes without exits from here on.",
      ),
      {
        title: "The guest writes entry 7 there, without an exit",
        note: "Nobody notices: the shadow page is unsync, which allows it.",
        run: ({ set }) => {
          set(0x4038n, 0x7000n | FULL);
          set(0x4028n, 0x8000n | FULL);
          return "written";
        },
      },
      {
        title: "A write to CR3, and the next entry",
        note: "The unsync page is synchronised: entry 5 leads to the new frame, or is dropped.",
        run: ({ vcpu }) => {
          vcpu.writeCr3(0x1000n);
          return vcpu.enterGuest() ? "entered" : "triple fault";
        },
      },
      fault("A read of 0x5000", 0x5000n, READ),
      fault("A read of 0x7000", 0x7000n, READ),
    ],
  },
  la57: {
    sides: [
      { name: "a host with four levels", config: { paging: "shadow" } },
      { name: "a host with five levels", config: { paging: "shadow", minimumRootLevel: 5 } },
    ],
    registers: LONG,
    begin: (guest) => {
      longTables(guest);
      guest.set(0x9000n, 0x1000n | FULL);
    },
    acts: [
      enter,
      fault("A read of 0x5000 on four levels", 0x5000n, READ),
      {
        title: "The guest goes on with five levels",
        note: "CR4.LA57 changes the role of every page: the root is another one, the 4-level one stays for later.",
        run: ({ vcpu }) => {
          vcpu.setRegisters({ ...LONG, cr3: 0x9000n, cr4: LONG.cr4 | bitOf(CR4, "LA57") });
          return vcpu.enterGuest() ? "entered" : "triple fault";
        },
      },
      fault(
        "A read of 0x5000 on five levels",
        0x5000n,
        READ,
        "The pages below the new root are those of before: role and gfn are the same.",
      ),
      {
        title: "Back to four levels",
        run: ({ vcpu }) => {
          vcpu.setRegisters(LONG);
          return vcpu.enterGuest() ? "entered" : "triple fault";
        },
      },
      fault("A read of 0x5000 on four levels again", 0x5000n, READ),
    ],
  },
  "stale-role-bit": {
    sides: [
      { name: "without the bit", config: { paging: "npt" } },
      { name: "with the stale bit (cr4_pae)", config: { paging: "npt", staleDirectRoleBits: STALE_BIT } },
    ],
    registers: LONG,
    begin: ({ set }) => {
      for (const table of [0x10000n, 0x11000n, 0x12000n]) set(table, (table + 0x1000n) | FULL);
      for (let page = 0n; page < 16n; page++) set(0x13000n + 8n * page, (0x200000n + (page << 12n)) | FULL);
    },
    acts: [enter, fault("A read of L1's at 0x5000", 0x5000n, READ), ...[1, 2, 3].flatMap(nestedRound)],
  },
  aliases: {
    sides: [
      { name: "one bit tells aliases apart", config: { paging: "ept", aliases: { mask: ALIAS } } },
      {
        name: "and its alias can only be executed",
        config: { paging: "ept", aliases: { mask: ALIAS, executeOnly: ALIAS } },
      },
    ],
    registers: LONG,
    begin: () => {},
    acts: [
      enter,
      fault("A write to 0x5000", 0x5000n, WRITE),
      fault(
        "A fetch from its alias",
        ALIAS | 0x5000n,
        FETCH,
        "A tree of its own below another entry of the root, for the same gfn.",
      ),
      fault(
        "A read through the alias",
        ALIAS | 0x5000n,
        READ,
        "Where the alias is execute-only, the guest gets a fault: reads and writes are injected.",
      ),
      {
        title: "The host takes the page away",
        note: "One gfn, all its aliases.",
        run: ({ vm }) => {
          vm.unmapRange(0x7f0000005000n, 0x7f0000006000n);
          return "unmapped";
        },
      },
    ],
  },
};

/** Plays a story to its end. */
export function tell(
  core: Core,
  id: StoryId,
): { readonly sides: readonly string[]; readonly steps: readonly ToldStep[] } {
  const story = SCRIPTS[id];
  const machines = story.sides.map(({ config }) => begun(core, story, config));
  try {
    const steps = story.acts.map(({ title, note = "", run }): ToldStep => {
      const sides = machines.map(({ guest, events }) => {
        events.length = 0;
        const result = run(guest);
        return { result, events: [...events], picture: pictureOfVm(guest.vm) };
      });
      return { title, note, sides };
    });
    return { sides: story.sides.map(({ name }) => name), steps };
  } finally {
    for (const { guest } of machines) guest.vm.dispose();
  }
}

function begun(
  core: Core,
  { registers, begin }: Story,
  config: VirtualMachineConfig,
): { guest: Guest; events: string[] } {
  const vm = new VirtualMachine(core, { ...config, eventCapacity: 4000 });
  vm.setSlot({ id: 0, gpa: 0n, size: SIZE, ram: vm.createRam(SIZE), hva: 0x7f0000000000n });
  const set = (gpa: bigint, word: bigint) => vm.writeGuest(gpa, new Uint8Array(new BigUint64Array([word]).buffer));
  const events: string[] = [];
  vm.events.sink = (event) => {
    if (event.ev !== "lost_events" && TEXT_KINDS.has(event.ev)) events.push(`${event.ev}: ${printEvent(event)}`);
  };
  const vcpu = vm.createVcpu(registers);
  const guest = { vm, vcpu, config, set };
  begin(guest);
  return { guest, events };
}
