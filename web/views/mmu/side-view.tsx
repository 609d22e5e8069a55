/** One MMU at one step: its pages as a graph, its roots, the page that is chosen, the kernel's trace. */
import type { SideStep } from "../../engine/mmu/session.js";
import { PageDetails } from "./page-details.jsx";
import { PageGraph } from "./page-graph.jsx";
import { nameOf } from "./page-name.js";
import { Roots } from "./roots.jsx";

interface SideViewProps {
  readonly name: string;
  readonly side: SideStep;
  /** The other MMU, where there are two. */
  readonly other: SideStep | undefined;
  readonly chosen: string | undefined;
  readonly onChoose: (id: string) => void;
}

export function SideView({ name, side, other, chosen, onChoose }: SideViewProps) {
  const { picture, changes, events } = side;
  const page = picture.pages.find(({ id }) => id === chosen);
  return (
    <section aria-label={name}>
      <h2>{name}</h2>
      <PageGraph
        label={`Shadow pages, ${name}`}
        pages={picture.pages}
        changes={changes}
        chosen={chosen}
        onChoose={onChoose}
      />
      {changes.gone.length > 0 && <p>Gone: {changes.gone.map((gone) => nameOf(gone)).join("; ")}</p>}
      {page && <PageDetails page={page} pages={picture.pages} others={other?.picture.pages} onChoose={onChoose} />}
      {picture.roots.length > 0 && <Roots roots={picture.roots} pages={picture.pages} />}
      <details>
        <summary>
          {events.length} event{events.length === 1 ? "" : "s"} in the kernel's words
        </summary>
        <pre class="events">{events.join("\n") || "none"}</pre>
      </details>
    </section>
  );
}
