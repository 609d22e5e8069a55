/** Text as a terminal may get it: styled by the command alone, whatever files and arguments have in them. */
import { randomUUID } from "node:crypto";
import { type Styler, stylerFor, type TextStream } from "./style.js";

const ESCAPE = "\u001b";
const PLAIN = /^[\x20-\x7e]*$/;
/**
 * Control characters (C0 but the tab, DEL, C1), format characters (such as those that turn the direction of text), line
 * and paragraph separators, and halves of surrogate pairs.
 */
const HARMFUL = /(?!\t)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/**
 * One line of text in which everything that a terminal could take for a command, or that a reader could not see, is
 * written as \uXXXX. The line of a JSON document stays one with the same meaning.
 */
export function visible(text: string): string {
  return PLAIN.test(text) ? text : text.replace(HARMFUL, escaped);
}

function escaped(character: string): string {
  let written = "";
  for (let i = 0; i < character.length; i++) {
    written += `\\u${character.charCodeAt(i).toString(16).padStart(4, "0")}`;
  }
  return written;
}

/** Lines for one stream. Only what `style` adds reaches it as escape sequences. */
export class TerminalText {
  /** Stands for ESC until the line is finished; nobody else can write it. */
  readonly #mark = `\ufdd0${randomUUID()}`;
  /** Styles a part of a line. */
  readonly style: Styler;

  constructor(stream: TextStream, env: Readonly<Record<string, string | undefined>>) {
    const styler = stylerFor(stream, env);
    // What is put around text, by format: there may be millions of lines.
    const around = new Map<unknown, readonly [before: string, after: string]>();
    this.style = (format, text) => {
      let marks = around.get(format);
      if (marks === undefined) {
        const [before = "", after = ""] = styler(format, "\n").split("\n");
        marks = [this.#marked(before), this.#marked(after)];
        if (typeof format === "string") around.set(format, marks);
      }
      return marks[0] + text + marks[1];
    };
  }

  /** The line as it may be written. */
  line(text: string): string {
    return PLAIN.test(text) ? text : visible(text).replaceAll(this.#mark, ESCAPE);
  }

  #marked(sequence: string): string {
    return sequence.replaceAll(ESCAPE, this.#mark);
  }
}
