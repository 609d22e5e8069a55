/** What the replay did otherwise than the recording, side by side. */
import type { ShownStep } from "../../engine/mmu/session.js";

export function Differences({ step }: { step: ShownStep }) {
  const { differences } = step;
  if (differences.length === 0) return null;
  return (
    <section>
      <h2>Differences in this step</h2>
      <div class="scroll" tabIndex={0} role="region" aria-label="Differences">
        <table>
          <thead>
            <tr>
              <th scope="col">what</th>
              <th scope="col">recorded</th>
              <th scope="col">replayed</th>
            </tr>
          </thead>
          <tbody>
            {differences.map(({ what, recorded, replayed }, index) => (
              <tr key={index}>
                <th scope="row">{what}</th>
                <td>{recorded}</td>
                <td>{replayed}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
