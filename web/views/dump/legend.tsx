/** What the colours of the map mean. */

import { hex } from "../../paging/words.js";
import { KINDS } from "./map-cells.js";

interface LegendProps {
  readonly physical: boolean;
  readonly onPhysical: (physical: boolean) => void;
  /** The highest physical page. */
  readonly highest: number;
}

export function Legend({ physical, onPhysical, highest }: LegendProps) {
  return (
    <div class="legend">
      <label>
        <input type="checkbox" checked={physical} onChange={({ currentTarget }) => onPhysical(currentTarget.checked)} />{" "}
        colours by physical address
      </label>
      {physical ? (
        <span class="legend-item">
          <span class="scale" aria-hidden="true" /> 0 to {hex(BigInt(highest) << 12n)}, of the lowest page below
        </span>
      ) : (
        [...KINDS, { name: "read", text: "supervisor, read-only" }].map(({ name, text }) => (
          <span key={name} class="legend-item">
            <span class={`swatch kind-${name}`} aria-hidden="true" /> {text}
          </span>
        ))
      )}
      <span class="legend-item">
        <span class="swatch kind-read huge" aria-hidden="true" /> large pages below
      </span>
      <span class="legend-item hint">filled as far as it is mapped</span>
    </div>
  );
}
