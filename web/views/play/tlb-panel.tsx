/** What the TLB keeps. */

import type { TlbEntry } from "../../engine/play/tlb.js";
import { hex } from "../../paging/words.js";

export function TlbPanel({ entries }: { entries: readonly TlbEntry[] }) {
  return (
    <section>
      <h2>TLB</h2>
      {entries.length === 0 ? (
        <p class="hint">empty</p>
      ) : (
        <div class="scroll" tabIndex={0} role="region" aria-label="TLB entries">
          <table>
            <thead>
              <tr>
                <th scope="col">page</th>
                <th scope="col">frame</th>
                <th scope="col">size</th>
                <th scope="col">rights</th>
                <th scope="col">dirty</th>
              </tr>
            </thead>
            <tbody>
              {entries.map(({ page, frame, size, rights, dirty, global }) => (
                <tr key={`${page}`}>
                  <td>
                    <code>{hex(page)}</code>
                  </td>
                  <td>
                    <code>{hex(frame)}</code>
                  </td>
                  <td>{size === 4096 ? "4K" : `${size / 2 ** 20}M`}</td>
                  <td>
                    {[
                      rights.user ? "user" : "supervisor",
                      rights.write ? "writable" : "read-only",
                      rights.execute ? "executable" : "no-execute",
                      ...(global ? ["global"] : []),
                    ].join(", ")}
                  </td>
                  <td>{dirty ? "yes" : "no: a write walks"}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
