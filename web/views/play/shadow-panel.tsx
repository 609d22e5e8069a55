/** What KVM's shadow MMU makes of the access: the SPTEs on the way, their roles, the kernel's trace. */
import { decodeSpte, spteLayoutOfKernel } from "x86-paging/spte";
import type { PlayShown } from "../../engine/play/session.js";
import { BitStrip } from "../../paging/bit-strip.jsx";
import { spteStrip } from "../../paging/spte-strip.js";
import { hrefOf } from "../../state/route.js";
import { shadowReasons } from "./reasons.js";

const LAYOUT = spteLayoutOfKernel("6.1");

const OUTCOMES: Readonly<Record<string, string>> = {
  fixed: "KVM makes the entries that are missing, and the guest goes on",
  spurious: "the shadow allows it already",
  inject: "KVM gives the fault to the guest",
  emulate: "KVM emulates the instruction",
  mmio: "there is no memory: KVM emulates the access",
  retry: "the guest is entered again, and faults once more",
};

export function ShadowPanel({ machine }: { machine: PlayShown }) {
  const { shadow, result, before, outdated } = machine;
  if (shadow === undefined || result === undefined || before === undefined) {
    return (
      <section>
        <h2>In KVM's shadow MMU</h2>
        <p>There is nothing to shadow: paging is off, or KVM refuses these registers.</p>
      </section>
    );
  }
  const leaf = shadow.steps.at(-1);
  return (
    <section>
      <h2>In KVM's shadow MMU</h2>
      <p>
        {outdated ? "Before your last change, the" : "The"} same access of a fresh guest under shadow paging:{" "}
        <strong>{OUTCOMES[shadow.outcome] ?? shadow.outcome}</strong>.
      </p>
      {shadowReasons(result, shadow, before).map((text) => (
        <p key={text}>{text}</p>
      ))}
      {leaf !== undefined && (
        <>
          <h3>
            Level {leaf.level} SPTE{" "}
            <a href={hrefOf("decode", { kind: "spte", word: leaf.spte.toString(16), level: `${leaf.level}` })}>
              <code>{leaf.spte.toString(16)}</code>
            </a>
          </h3>
          <BitStrip
            label="SPTE"
            fields={spteStrip(decodeSpte(leaf.spte, { format: "shadow", level: leaf.level }), LAYOUT, "shadow")}
          />
        </>
      )}
      <details>
        <summary>The shadow pages on the way, and the kernel's trace</summary>
        <div class="scroll" tabIndex={0} role="region" aria-label="Shadow pages">
          <table>
            <thead>
              <tr>
                <th scope="col">level</th>
                <th scope="col">stands for gfn</th>
                <th scope="col">role</th>
                <th scope="col">SPTE</th>
              </tr>
            </thead>
            <tbody>
              {shadow.steps.map(({ level, gfn, role, roleText, spte, direct }) => (
                <tr key={level}>
                  <td>{level}</td>
                  <td>
                    <code>{gfn.toString(16)}</code>
                    {direct ? " (direct)" : ""}
                  </td>
                  <td>
                    <a href={hrefOf("decode", { kind: "role", kernel: "project", word: role.toString(16) })}>
                      <code>{roleText}</code>
                    </a>
                  </td>
                  <td>
                    <code>{spte.toString(16)}</code>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
        <pre class="events">{shadow.events.join("\n")}</pre>
      </details>
    </section>
  );
}
