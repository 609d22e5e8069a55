/** The most bytes that the files of a recording may inflate to. */

/** Of text. */
export const MAX_TEXT = 2 ** 25;
/** Of guest memory, in all slots. */
export const MAX_MEMORY = 2 ** 26;
