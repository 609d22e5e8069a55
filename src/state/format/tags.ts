/**
 * Plain data in a state: configurations, whose options may become more without a format of their own. Objects are written in
 * the order of their names, so that equal ones are equal bytes; what is undefined is left out.
 */

/** What a piece of data begins with. */
export const TAG = {
  undefined: 0,
  null: 1,
  false: 2,
  true: 3,
  number: 4,
  bigint: 5,
  text: 6,
  array: 7,
  object: 8,
} as const;

/** Configurations are three levels deep. */
export const MOST_DEPTH = 8;
