/** Where blocks lay, in a state: they are asked for again, so that later ones lie where they would have. */
import type { StateReader } from "../../state/format/reader.js";
import type { StateWriter } from "../../state/format/writer.js";

/** A block of linear memory, in bytes. */
export interface Place {
  readonly address: number;
  readonly size: number;
}

export function writePlaces(out: StateWriter, places: readonly Place[]): void {
  out.list(places, ({ address, size }) => {
    out.u32(address);
    out.u32(size);
  });
}

export function readPlaces(from: StateReader): Place[] {
  return from.list(8, () => ({ address: from.u32(), size: from.u32() }));
}
