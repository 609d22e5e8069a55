/** Results as a Markdown table and as a bar chart in SVG. */
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
export function chart(sections: readonly Section[], most = 5): string {
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
  const title = "<title>Time by that of native C</title>";
  const background = `<rect width="${WIDTH}" height="${y + 12}" fill="#fff"/>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y + 12}" ${style}>${title}${background}${parts.join("")}</svg>\n`;
}

const escapeXml = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
