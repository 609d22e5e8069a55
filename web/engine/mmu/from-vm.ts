/** A picture of a virtual machine of the model. */
import type { VirtualMachine } from "x86-paging/mmu";
import { guestTables, idOf, type Picture, type PictureRoots, picturePages } from "./picture.js";

export function pictureOfVm(vm: VirtualMachine): Picture {
  const all = vm.allPages();
  const pages = picturePages(all.map((page) => ({ ...page, layout: "project" })));
  const ids = new Map(all.map(({ pointer, hostAddress }) => [pointer, idOf(hostAddress)]));
  const roots = vm.vcpus.flatMap((vcpu) =>
    vcpu.roots().map(({ context, active, current, previous, hits, misses }): PictureRoots => {
      const named = (root: typeof current) =>
        root && { pgd: root.pgd, ...(ids.has(root.page) ? { page: ids.get(root.page)! } : {}) };
      return { context, active, current: named(current), previous: previous.map(named), hits, misses };
    }),
  );
  const used = roots.filter(
    ({ active, current, previous }) => active || current !== undefined || previous.some((root) => root !== undefined),
  );
  return { pages, roots: used, tables: guestTables(pages, (gpa, length) => vm.readGuest(gpa, length)) };
}
