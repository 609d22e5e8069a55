/** The roots of each paging context, and those before them that a switch may find again. */
import type { PicturePage, PictureRoot, PictureRoots } from "../../engine/mmu/picture.js";
import { nameOf } from "./page-name.js";

export function Roots({ roots, pages }: { roots: readonly PictureRoots[]; pages: readonly PicturePage[] }) {
  const text = (root: PictureRoot | undefined) => {
    if (root === undefined) return "–";
    const page = pages.find(({ id }) => id === root.page);
    return `pgd 0x${root.pgd.toString(16)}: ${page === undefined ? "a page that is not shown" : nameOf(page)}`;
  };
  const known = roots.some(({ hits }) => hits !== undefined);
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Roots">
      <table>
        <caption class="unseen">Roots</caption>
        <thead>
          <tr>
            <th scope="col">context</th>
            <th scope="col">current root</th>
            {[0, 1, 2].map((index) => (
              <th key={index} scope="col">
                previous root {index}
              </th>
            ))}
            {known && <th scope="col">switches: found / not found</th>}
          </tr>
        </thead>
        <tbody>
          {roots.map(({ context, active, current, previous, hits, misses }) => (
            <tr key={context}>
              <th scope="row">
                {context}
                {active ? " (in use)" : ""}
              </th>
              <td>{text(current)}</td>
              {[0, 1, 2].map((index) => (
                <td key={index}>{text(previous[index])}</td>
              ))}
              {known && (
                <td>
                  {hits} / {misses}
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
