/** The exercises' texts, and the machines that they begin with. */

export interface Exercise {
  readonly id: string;
  readonly title: string;
  readonly task: string;
  readonly hint: string;
  /** The machine to begin with, as a link has it. */
  readonly link: Readonly<Record<string, string>>;
}

export const EXERCISES: readonly Exercise[] = [
  {
    id: "map",
    title: "Map a page",
    task: "Make linear address 0x9000 readable for user code, at physical address 0x109000, and read it as user.",
    hint: "Entry 9 of the page table: the frame's address, P (bit 0) and US (bit 2).",
    link: { mode: "4level" },
  },
  {
    id: "execute",
    title: "Executable, but not writable",
    task: "Make 0x4000 executable for user code, and take the right to write it away.",
    hint: "Clear XD (bit 63) and RW (bit 1) of entry 4 of the page table.",
    link: { mode: "4level" },
  },
  {
    id: "write-protect",
    title: "CR0.WP",
    task: "0x5000 is read-only. Let a supervisor write to it succeed without touching a table. Then look at what KVM's shadow does.",
    hint: "CR0.WP says whether supervisor writes respect read-only pages.",
    link: { mode: "4level" },
  },
  {
    id: "stale",
    title: "A stale translation",
    task: "Read 0x6000, then map it to 0x10a000 and read again: the TLB still has the old frame. Make the next read see the new one.",
    hint: "INVLPG of the address, or a write to CR3.",
    link: { mode: "4level" },
  },
  {
    id: "accessed-dirty",
    title: "Accessed and dirty",
    task: "Set the dirty flag of 0x4000's entry without writing the entry yourself.",
    hint: "The processor sets D when an access writes, and A when one uses an entry.",
    link: { mode: "4level" },
  },
  {
    id: "smep",
    title: "SMEP",
    task: "Get a page fault by a supervisor fetch from 0x8000, a user page, by one bit in a control register.",
    hint: "CR4.SMEP. Clear XD first, if the entry has it: another rule would refuse the fetch.",
    link: { mode: "4level" },
  },
  {
    id: "reserved",
    title: "A reserved bit",
    task: "Get a page fault whose error code has RSVD (bit 3) set.",
    hint: "Set an address bit above MAXPHYADDR, or PS of an entry that maps no page; with EFER.NXE clear, bit 63 is reserved, too.",
    link: { mode: "4level" },
  },
  {
    id: "large",
    title: "A large page",
    task: "Map linear 0x400000 by one 2 MiB page at physical 0x200000, writable for the system alone, and write to it.",
    hint: "Entry 2 of the page directory: PS (bit 7), RW and P.",
    link: { mode: "pae" },
  },
  {
    id: "pdpte",
    title: "PAE's latched PDPTEs",
    task: "Map 0x40000000 (the second PDPTE) to the page directory at 0x3000 and read 0x40004000. What has to happen first?",
    hint: "The processor reads the four PDPTEs only when CR3 is written.",
    link: { mode: "pae" },
  },
  {
    id: "self-map",
    title: "A table that maps itself",
    task: "Make the page directory reachable through itself: map it at 0xfffff000, so that its last entry can be read there.",
    hint: "Entry 1023 of the page directory leads to 0x1000, the directory itself.",
    link: { mode: "32bit" },
  },
];
