/** Results as Markdown tables, as a bar chart and as curves in SVG. */
import type { Curve } from "./growth.js";
import type { Measured } from "./rounds.js";

export interface Section {
  readonly title: string;
  /** What a unit of work is. */
  readonly unit: string;
  readonly results: readonly Measured[];
}

export function markdown(sections: readonly Section[]): string {
  return sections
    .map(({ title, unit, results }) => {
      const rows = results.map(
        ({ name, nanoseconds, ratio, spread }) =>
          `| ${name} | ${ratio.toFixed(2)} | ±${spread.toFixed(2)} | ${nanoseconds.toFixed(2)} |`,
      );
      return [`### ${title}`, "", `| | ratio | spread | ns per ${unit} |`, "|---|---|---|---|", ...rows].join("\n");
    })
    .join("\n\n");
}

const WIDTH = 760;
const LABEL = 230;
const BAR = 18;

/** One group of bars a section, each as long as its ratio; longer ones are cut at `most` and say so. */
export function chart(sections: readonly Section[], heading: string, most = 5): string {
  const parts: string[] = [];
  let y = 10;
  for (const { title, results } of sections) {
    y += 20;
    parts.push(`<text x="10" y="${y}" font-weight="bold">${escapeXml(title)}</text>`);
    y += 8;
    for (const [index, { name, ratio }] of results.entries()) {
      const length = (Math.min(ratio, most) / most) * (WIDTH - LABEL - 70);
      const colour = index === 0 ? "#9a9a9a" : name.startsWith("core") ? "#2b6cb0" : "#c58a3a";
      parts.push(
        `<text x="${LABEL - 8}" y="${y + 13}" text-anchor="end">${escapeXml(name)}</text>`,
        `<rect x="${LABEL}" y="${y}" width="${length.toFixed(1)}" height="${BAR - 4}" fill="${colour}"/>`,
        `<text x="${(LABEL + length + 6).toFixed(1)}" y="${y + 12}">${ratio > most ? "&gt; " : ""}${ratio.toFixed(2)}</text>`,
      );
      y += BAR;
    }
  }
  const style = `font-family="sans-serif" font-size="12" fill="#222"`;
  const title = `<title>${escapeXml(heading)}</title>`;
  const background = `<rect width="${WIDTH}" height="${y + 12}" fill="#fff"/>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y + 12}" ${style}>${title}${background}${parts.join("")}</svg>\n`;
}

const escapeXml = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** One table for each thing that is counted: a row a figure, a column a size. */
export function curveMarkdown(curves: readonly Curve[]): string {
  return panels(curves)
    .map(([of, group]) => {
      const sizes = [...new Set(group.flatMap(({ points }) => points.map(({ x }) => x)))].sort((a, b) => a - b);
      const rows = group.map(({ name, unit, points }) => {
        const cells = sizes
          .map((size) => points.find(({ x }) => x === size)?.y)
          .map((y) => (y === undefined ? "" : brief(y)));
        return `| ${name} (${unit}) | ${cells.join(" | ")} |`;
      });
      const head = `| | ${sizes.map((size) => size.toLocaleString("en-US")).join(" | ")} |`;
      return [`### Growth by ${of}`, "", head, `|---|${sizes.map(() => "---|").join("")}`, ...rows].join("\n");
    })
    .join("\n\n");
}

const brief = (value: number) => (value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en-US"));

function panels(curves: readonly Curve[]): [string, Curve[]][] {
  const groups = new Map<string, Curve[]>();
  for (const curve of curves) groups.set(curve.of, [...(groups.get(curve.of) ?? []), curve]);
  return [...groups];
}

const PANEL = 240;
const MARGIN = { left: 60, right: 300, top: 30, bottom: 40 };
const COLOURS = ["#2b6cb0", "#c58a3a", "#2f855a", "#9b2c2c", "#6b46c1", "#4a5568", "#b7791f", "#285e61", "#97266d"];

/** Nanoseconds by size, one panel for each thing that is counted; both axes are logarithmic. */
export function curveChart(curves: readonly Curve[]): string {
  const parts: string[] = [];
  let y = 0;
  for (const [of, group] of panels(curves)) {
    const timed = group.filter(({ unit, points }) => unit === "ns" && points.length > 1);
    if (timed.length === 0) continue;
    parts.push(`<g transform="translate(0 ${y})">${panel(of, timed)}</g>`);
    y += MARGIN.top + PANEL + MARGIN.bottom;
  }
  const style = `font-family="sans-serif" font-size="12" fill="#222"`;
  const title = "<title>Time by number of mappings, shadow pages and memslots</title>";
  const background = `<rect width="${WIDTH}" height="${y}" fill="#fff"/>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" ${style}>${title}${background}${parts.join("")}</svg>\n`;
}

function panel(of: string, curves: readonly Curve[]): string {
  const points = curves.flatMap((curve) => curve.points);
  const decades = (values: number[]) =>
    [Math.floor(Math.log10(Math.min(...values))), Math.ceil(Math.log10(Math.max(...values)) - 1e-9)] as const;
  const [fromX, toX] = decades(points.map(({ x }) => x));
  const [fromY, toY] = decades(points.map(({ y }) => y));
  const width = WIDTH - MARGIN.left - MARGIN.right;
  const atX = (x: number) => MARGIN.left + ((Math.log10(x) - fromX) / Math.max(toX - fromX, 1)) * width;
  const atY = (y: number) => MARGIN.top + PANEL - ((Math.log10(y) - fromY) / Math.max(toY - fromY, 1)) * PANEL;
  const parts = [`<text x="${MARGIN.left}" y="18" font-weight="bold">ns by number of ${escapeXml(of)}</text>`];
  for (let power = fromX; power <= toX; power++) {
    const x = atX(10 ** power).toFixed(1);
    parts.push(`<path d="M${x} ${MARGIN.top}V${MARGIN.top + PANEL}" stroke="#eee"/>`);
    parts.push(`<text x="${x}" y="${MARGIN.top + PANEL + 16}" text-anchor="middle">${label(power)}</text>`);
  }
  for (let power = fromY; power <= toY; power++) {
    const y = atY(10 ** power).toFixed(1);
    parts.push(`<path d="M${MARGIN.left} ${y}H${MARGIN.left + width}" stroke="#eee"/>`);
    parts.push(`<text x="${MARGIN.left - 6}" y="${Number(y) + 4}" text-anchor="end">${label(power)}</text>`);
  }
  // Names stand where their curves end, but never on each other.
  const ends = curves
    .map((curve, index) => ({ curve, index, y: atY(curve.points.at(-1)!.y) }))
    .sort((a, b) => a.y - b.y);
  let free = MARGIN.top;
  for (const { curve, index, y } of ends) {
    const colour = COLOURS[index % COLOURS.length]!;
    const line = curve.points.map((point) => `${atX(point.x).toFixed(1)} ${atY(point.y).toFixed(1)}`).join("L");
    parts.push(`<path d="M${line}" fill="none" stroke="${colour}" stroke-width="1.5"/>`);
    const at = Math.max(y, free);
    free = at + 15;
    parts.push(
      `<text x="${MARGIN.left + width + 8}" y="${(at + 4).toFixed(1)}" fill="${colour}">${escapeXml(curve.name)}</text>`,
    );
  }
  return parts.join("");
}

const label = (power: number) => (power < 4 ? `${10 ** power}` : `1e${power}`);
