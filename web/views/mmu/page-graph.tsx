/** Shadow pages as boxes, a column for each level, with the links between them. */
import type { Changes, PicturePage } from "../../engine/mmu/picture.js";
import { shortRole } from "./page-name.js";

// Four levels fit beside the guest's tables on a desk.
const WIDTH = 208;
const HEIGHT = 58;
const GAP_X = 28;
const GAP_Y = 14;
/** More boxes make no picture. */
const MOST_PAGES = 150;

interface PageGraphProps {
  readonly label: string;
  readonly pages: readonly PicturePage[];
  readonly changes: Changes;
  readonly chosen: string | undefined;
  readonly onChoose: (id: string) => void;
}

export function PageGraph({ label, pages, changes, chosen, onChoose }: PageGraphProps) {
  if (pages.length === 0) return <p class="hint">There are no pages.</p>;
  const drawn = pages.slice(0, MOST_PAGES);
  const places = placed(drawn);
  const levels = [...new Set(drawn.map(({ level }) => level))];
  const most = Math.max(...levels.map((level) => drawn.filter((page) => page.level === level).length));
  const width = levels.length * (WIDTH + GAP_X) - GAP_X + 4;
  const height = most * (HEIGHT + GAP_Y) - GAP_Y + 4;
  return (
    <>
      <div class="scroll" tabIndex={0} role="region" aria-label={label}>
        <svg
          width={width}
          height={height}
          viewBox={`-2 -2 ${width} ${height}`}
          class="graph"
          role="group"
          aria-label={label}
        >
          {drawn.flatMap((page) => linksOf(page, places))}
          {drawn.map((page) => (
            <Box
              key={page.id}
              page={page}
              place={places.get(page.id)!}
              state={stateOf(page, changes)}
              chosen={page.id === chosen}
              onChoose={() => onChoose(page.id)}
            />
          ))}
        </svg>
      </div>
      {pages.length > drawn.length && (
        <p class="hint">
          The first {drawn.length} of {pages.length} pages.
        </p>
      )}
    </>
  );
}

interface Place {
  readonly x: number;
  readonly y: number;
}

function placed(pages: readonly PicturePage[]): Map<string, Place> {
  const levels = [...new Set(pages.map(({ level }) => level))].sort((a, b) => b - a);
  const used = new Map<number, number>();
  return new Map(
    pages.map(({ id, level }) => {
      const row = used.get(level) ?? 0;
      used.set(level, row + 1);
      return [id, { x: levels.indexOf(level) * (WIDTH + GAP_X), y: row * (HEIGHT + GAP_Y) }];
    }),
  );
}

function linksOf(page: PicturePage, places: ReadonlyMap<string, Place>) {
  const from = places.get(page.id)!;
  const targets = new Set(page.entries.flatMap(({ to }) => (to !== undefined && places.has(to) ? [to] : [])));
  return [...targets].map((to) => {
    const target = places.get(to)!;
    const [x1, y1, x2, y2] = [from.x + WIDTH, from.y + HEIGHT / 2, target.x, target.y + HEIGHT / 2];
    const bend = Math.max(14, Math.abs(x2 - x1) / 2);
    return (
      <path
        key={`${page.id} ${to}`}
        class="link-line"
        d={`M${x1} ${y1} C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`}
      />
    );
  });
}

function stateOf(page: PicturePage, { made, changed }: Changes): string {
  const words = [
    made.includes(page.id) ? "new" : changed.includes(page.id) ? "changed" : "",
    page.rootCount > 0 ? "root" : "",
    page.unsync ? "unsync" : "",
    page.tdp ? "TDP" : "",
    page.direct ? "direct" : "",
  ];
  return words.filter((word) => word !== "").join(", ");
}

interface BoxProps {
  readonly page: PicturePage;
  readonly place: Place;
  readonly state: string;
  readonly chosen: boolean;
  readonly onChoose: () => void;
}

function Box({ page, place, state, chosen, onChoose }: BoxProps) {
  const words = state.split(", ").map((word) => `is-${word}`);
  const entries = page.entries.length + page.more;
  const count = `${entries} entr${entries === 1 ? "y" : "ies"}`;
  const title = page.special ?? `gfn 0x${page.gfn.toString(16)}`;
  return (
    <g
      role="button"
      tabindex={0}
      class={["box", ...words, chosen ? "chosen" : "", page.special === undefined ? "" : "special"].join(" ")}
      aria-label={`${title}, ${count}, ${shortRole(page)}${state === "" ? "" : `, ${state}`}`}
      aria-pressed={chosen}
      transform={`translate(${place.x} ${place.y})`}
      onClick={onChoose}
      onKeyDown={(event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        onChoose();
      }}
    >
      <rect width={WIDTH} height={HEIGHT} rx={6} />
      <text x={8} y={18} class="strong">
        {title}
      </text>{" "}
      <text x={WIDTH - 8} y={18} text-anchor="end" class="faint">
        {count}
      </text>{" "}
      <text x={8} y={34}>
        {shortRole(page)}
      </text>{" "}
      <text x={8} y={50} class="faint">
        {state}
      </text>
    </g>
  );
}
