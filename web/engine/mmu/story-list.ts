/** The built-in examples by name: small guests on the model of KVM's MMU. */

export const STORIES = [
  {
    id: "guest-32bit",
    title: "A 32-bit guest without special roots",
    text: "A guest with 32-bit paging is shadowed by PAE tables. Its root is an ordinary shadow page with role.pae_root, at level 3; on a host whose shadow tables are always four levels deep, pages with role.level_promoted stand above it. KVM of Linux 6.1 has pae_root and pml4_root for that, tables of their own outside the hash.",
  },
  {
    id: "unsync",
    title: "A guest's table goes out of sync, and is synchronised",
    text: "A page table that the guest has mapped writable is write-protected while it is shadowed. At the first write to it KVM lets the guest write on, and marks the shadow page unsync; with the next CR3 write or INVLPG it compares entries again, by role and entry size, and adapts its own.",
  },
  {
    id: "la57",
    title: "A guest switches between 4 and 5 levels",
    text: "The guest runs on 4-level tables, then on 5-level ones, then on the first again. Each mode's root has its own role, so neither can be taken for the other; on a host with LA57 the 4-level guest's root is promoted to level 5.",
  },
  {
    id: "stale-role-bit",
    title: "L2 to L1, with and without the stale role bit",
    text: "Each exit of a nested guest wants L1's direct root back, which lies among the previous roots. Where the wanted role has a bit that stored pages drop (cr4_pae, until it was removed), no look-up finds it: every switch misses, and the root is loaded anew.",
  },
  {
    id: "aliases",
    title: "Stolen bits: aliases of one gfn",
    text: "A guest-physical address bit is an attribute: two addresses are aliases of one gfn, each with SPTEs of its own, and through one of them memory can only be executed. What concerns the gfn reaches all its aliases.",
  },
] as const;

export type StoryId = (typeof STORIES)[number]["id"];
