/** Makes accesses, and forgets translations. */
import { useState } from "preact/hooks";
import type { PlayAccess } from "../../engine/play/machine.js";
import { HexInput } from "../../ui/hex-input.jsx";
import { act, shown } from "./store.js";

const KINDS = ["read", "write", "fetch"] as const;

export function AccessPanel() {
  const [address, setAddress] = useState(0x5000n);
  const [user, setUser] = useState(false);
  const [ac, setAc] = useState(false);
  const who = user ? "user" : "supervisor";
  const hex = `0x${address.toString(16)}`;
  const bits = shown.value?.mode === "4level" ? 64 : 32;
  const make = (kind: PlayAccess["kind"]) =>
    act({ do: "access", access: { address, kind, user, ac } }, `${who} ${kind} of ${hex}`);
  return (
    <section>
      <h2>Access</h2>
      <div class="controls">
        <HexInput label="Linear address" late bits={bits} value={BigInt.asUintN(bits, address)} onValue={setAddress} />
        <fieldset class="plain">
          <legend class="unseen">Who</legend>
          {[false, true].map((value) => (
            <label key={`${value}`}>
              <input type="radio" name="who" checked={user === value} onChange={() => setUser(value)} />{" "}
              {value ? "user (CPL 3)" : "supervisor"}{" "}
            </label>
          ))}
        </fieldset>
        <label>
          <input type="checkbox" checked={ac} onChange={({ currentTarget }) => setAc(currentTarget.checked)} />{" "}
          EFLAGS.AC
        </label>
      </div>
      <div class="controls">
        {KINDS.map((kind) => (
          <button key={kind} type="button" class="primary" onClick={() => make(kind)}>
            {kind}
          </button>
        ))}
        <button type="button" onClick={() => act({ do: "invlpg", address }, `INVLPG of ${hex}`)}>
          INVLPG
        </button>
        <button
          type="button"
          onClick={() => act({ do: "register", name: "cr3", value: shown.value!.registers.cr3 }, "CR3 was written")}
        >
          write CR3
        </button>
      </div>
      <p class="hint">
        0x4000 user, writable; 0x5000 user, read-only; 0x6000 the system's, writable; 0x7000 the system's code; 0x8000
        the user's code: that is how the tables begin.
      </p>
    </section>
  );
}
