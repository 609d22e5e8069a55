/** Colour on terminals, plain text elsewhere. */
import { styleText } from "node:util";

type Format = Parameters<typeof styleText>[0];

/** Styles text, or leaves it alone. */
export type Styler = (format: Format, text: string) => string;

export interface TextStream {
  readonly isTTY?: boolean | undefined;
}

/** Colour is used only on a terminal, and not where NO_COLOR is set (no-color.org) or the terminal is dumb. */
export function stylerFor(stream: TextStream, env: Readonly<Record<string, string | undefined>>): Styler {
  const colour = stream.isTTY === true && !env.NO_COLOR && env.TERM !== "dumb";
  if (!colour) return (_, text) => text;
  // Newer versions of styleText look at the process's own streams unless told not to.
  return (format, text) => styleText(format, text, { validateStream: false });
}
