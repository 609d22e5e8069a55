/** Rows of the list that is shown, fetched from the worker in blocks as they come into sight; few are kept. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import type { Row } from "../../engine/dump/answers.js";
import { dumpWorker } from "../../state/dump/session.js";
import { noted } from "../../state/problem.js";

const BLOCK = 128;
const MOST_BLOCKS = 64;

export function useRows(space: number, version: number) {
  const [, setFetched] = useState(0);
  const blocks = useRef(new Map<number, readonly Row[] | "asked">());
  const now = useRef(version);
  if (now.current !== version) {
    now.current = version;
    blocks.current = new Map();
  }
  const sight = useRef({ first: 0, end: 0 });
  const fetchBlocks = useCallback(() => {
    const { first, end } = sight.current;
    const held = blocks.current;
    for (let block = Math.floor(first / BLOCK); block * BLOCK < end; block++) {
      if (held.has(block)) continue;
      held.set(block, "asked");
      void noted(async () => {
        try {
          held.set(block, await dumpWorker().rows(space, block * BLOCK, (block + 1) * BLOCK));
        } catch (error) {
          held.delete(block);
          throw error;
        }
        for (const old of held.keys()) {
          if (held.size <= MOST_BLOCKS) break;
          held.delete(old);
        }
        setFetched((count) => count + 1);
      });
    }
  }, [space]);
  const onRange = useCallback(
    (first: number, end: number) => {
      sight.current = { first, end };
      fetchBlocks();
    },
    [fetchBlocks],
  );
  useEffect(fetchBlocks, [version, fetchBlocks]);
  const rowOf = (index: number): Row | undefined => {
    const block = blocks.current.get(Math.floor(index / BLOCK));
    return block === undefined || block === "asked" ? undefined : block[index % BLOCK];
  };
  return { rowOf, onRange };
}
