/** The mmu view. */

export function MmuView() {
  return <section />;
}
