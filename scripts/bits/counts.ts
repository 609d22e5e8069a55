/** How many bare bits each file has. */
export type Counts = Readonly<Record<string, number>>;

/** What differs from the known numbers, which may only become smaller. */
export function bitProblems(counts: Counts, known: Counts): string[] {
  const paths = [...new Set([...Object.keys(counts), ...Object.keys(known)])].sort();
  return paths.flatMap((path) => {
    const [found = 0, expected = 0] = [counts[path], known[path]];
    if (found > expected)
      return [`${path}: ${found} bare bits, ${expected} known: name them in src/abi (check-bits --list)`];
    if (found < expected) return [`${path}: ${found} bare bits, ${expected} known: run check-bits --update`];
    return [];
  });
}
