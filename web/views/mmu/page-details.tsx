/** The page that is chosen: its role field by field, beside that of its like in the other MMU, and its entries. */
import type { PicturePage } from "../../engine/mmu/picture.js";
import { hrefOf } from "../../state/route.js";
import { nameOf } from "./page-name.js";

interface PageDetailsProps {
  readonly page: PicturePage;
  readonly pages: readonly PicturePage[];
  /** Pages of the other MMU. */
  readonly others: readonly PicturePage[] | undefined;
  readonly onChoose: (id: string) => void;
}

export function PageDetails({ page, pages, others, onChoose }: PageDetailsProps) {
  const like = others === undefined ? undefined : likeOf(page, others);
  const names = [...new Set([...Object.keys(page.fields), ...Object.keys(like?.fields ?? {})])];
  const level = `${page.level}`;
  return (
    <div class="details">
      <h3>{nameOf(page)}</h3>
      {page.role < 0 ? (
        <p>The trace prints some fields of its role; the word is not in it.</p>
      ) : page.special !== undefined ? (
        <p>A table of KVM's own, outside the hash: it has no role, and no look-up finds it.</p>
      ) : (
        <p>
          Role{" "}
          <a href={hrefOf("decode", { kind: "role", kernel: page.layout, word: page.role.toString(16) })}>
            <code>0x{page.role.toString(16)}</code>
          </a>
          {like && (
            <>
              {" "}
              beside <code>{like.special ?? `0x${like.role.toString(16)}`}</code> in the other
            </>
          )}
        </p>
      )}
      {names.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Role fields">
          <table>
            <thead>
              <tr>
                <th scope="col">field</th>
                <th scope="col">here</th>
                {like && <th scope="col">there</th>}
              </tr>
            </thead>
            <tbody>
              {names.map((name) => {
                const [here, there] = [page.fields[name] ?? "0", like?.fields[name] ?? "0"];
                return (
                  <tr key={name} class={like && here !== there ? "changed" : ""}>
                    <th scope="row">{name}</th>
                    <td>{here}</td>
                    {like && (
                      <td>
                        {there}
                        {here !== there && " (differs)"}
                      </td>
                    )}
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
      <ul class="words">
        {page.entries.map(({ index, spte, to }) => (
          <li key={index}>
            {spte !== 0n && (
              <a href={hrefOf("decode", { kind: "spte", word: spte.toString(16), level })}>
                <code>
                  [{index}] {spte.toString(16)}
                </code>
              </a>
            )}{" "}
            {to !== undefined && (
              <button type="button" class="link" onClick={() => onChoose(to)}>
                {nameOf(pages.find(({ id }) => id === to)!)}
              </button>
            )}
          </li>
        ))}
      </ul>
      {page.more > 0 && <p class="hint">and {page.more} more entries</p>}
    </div>
  );
}

/** The page of the other MMU that stands for the same: by gfn and level, a root for a root. */
function likeOf(page: PicturePage, others: readonly PicturePage[]): PicturePage | undefined {
  const alike = others.filter(
    (other) => other.level === page.level && (other.gfn === page.gfn || (page.rootCount > 0 && other.rootCount > 0)),
  );
  const same = (name: string) => (other: PicturePage) => other.fields[name] === page.fields[name];
  return (
    alike.find((other) => same("quadrant")(other) && same("guest_mode")(other) && other.direct === page.direct) ??
    alike[0]
  );
}
