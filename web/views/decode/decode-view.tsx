/** The Decode view: paste a word and see its fields, flip fields and see the word. */
import { BitStrip } from "../../paging/bit-strip.jsx";
import { navigate, route, setParams } from "../../state/route.js";
import { HexInput } from "../../ui/hex-input.jsx";
import { type Chosen, chosenOf, DECODERS, decodedOf, paramsOf, wrongIn } from "./decoders.js";
import type { Decoded, EraReading } from "./model.js";
import { withField } from "./model.js";
import { OptionRow } from "./option-row.jsx";

const GROUPS = [...new Set(DECODERS.map(({ group }) => group))];

export function DecodeView() {
  const chosen = chosenOf(route.value.params);
  const { decoder, word, options } = chosen;
  const decoded = decodedOf(chosen);
  const wrong = wrongIn(route.value.params, chosen);
  // What another decoder had of options goes.
  const show = (next: Partial<Chosen>) => navigateTo({ ...chosen, ...next });
  const bits = decoder.bits(options);
  return (
    <section>
      <h2>Decode a word</h2>
      <div class="controls">
        <label>
          Kind{" "}
          <select
            value={decoder.id}
            onChange={({ currentTarget }) => navigate("decode", { kind: currentTarget.value })}
          >
            {GROUPS.map((group) => (
              <optgroup key={group} label={group}>
                {DECODERS.filter((one) => one.group === group).map(({ id, title }) => (
                  <option key={id} value={id}>
                    {title}
                  </option>
                ))}
              </optgroup>
            ))}
          </select>
        </label>
        <HexInput label="Word" bits={bits} value={word} onValue={(value) => show({ word: value })} />
      </div>
      <OptionRow
        options={decoder.options(options)}
        values={options}
        onChange={(name, value) => show({ options: { ...options, [name]: value } })}
      />
      {wrong !== undefined && (
        <p class="bad" role="alert">
          {wrong}
        </p>
      )}
      {"problem" in decoded ? (
        <p class="bad" role="status">
          {decoded.problem}
        </p>
      ) : (
        <DecodedWord decoded={decoded} word={word} onWord={(value) => show({ word: value })} />
      )}
    </section>
  );
}

function navigateTo(chosen: Chosen): void {
  const old = Object.keys(route.value.params);
  const cleared = Object.fromEntries(old.map((name) => [name, undefined]));
  setParams({ ...cleared, ...paramsOf(chosen) });
}

interface DecodedWordProps {
  readonly decoded: Decoded;
  readonly word: bigint;
  readonly onWord: (word: bigint) => void;
}

function DecodedWord({ decoded, word, onWord }: DecodedWordProps) {
  const { title, summary, fields, problems, facts, eras, source } = decoded;
  const set = fields
    .filter(({ value, text }) => value !== 0n || text !== undefined)
    .sort((one, other) => other.low - one.low);
  return (
    <>
      <p class="summary" role="status">
        <strong>{title}</strong>
        {summary === "" ? "" : `: ${summary}`}
      </p>
      {problems.map((problem) => (
        <p key={problem} class="bad">
          refused: {problem}
        </p>
      ))}
      <BitStrip label={title} fields={fields} onChange={(field, value) => onWord(withField(word, field, value))} />
      {facts.length > 0 && (
        <dl class="facts">
          {facts.map(([label, text]) => (
            <>
              <dt key={label}>{label}</dt>
              <dd>
                <code>{text}</code>
              </dd>
            </>
          ))}
        </dl>
      )}
      <h3>What is set</h3>
      {set.length === 0 ? (
        <p class="hint">nothing</p>
      ) : (
        <dl class="facts fields">
          {set.map((field) => (
            <>
              <dt key={field.low}>
                <code>{field.name || "–"}</code>{" "}
                {field.width === 1 ? `bit ${field.low}` : `bits ${field.low + field.width - 1}:${field.low}`}
              </dt>
              <dd>
                {field.meaning}
                {field.width > 1 && <code> = 0x{field.value.toString(16)}</code>}
                {field.text !== undefined && ` – ${field.text}`}
              </dd>
            </>
          ))}
        </dl>
      )}
      {eras && <Eras eras={eras} />}
      <p class="hint">Source of the bits: {source}</p>
    </>
  );
}

function Eras({ eras }: { eras: readonly EraReading[] }) {
  const converted = eras.some(({ word }) => word !== undefined);
  return (
    <details>
      <summary>{converted ? "The same role in other kernels" : "What other kernels take the word for"}</summary>
      <div class="scroll" tabIndex={0} role="region" aria-label="Other kernels">
        <table>
          <thead>
            <tr>
              <th scope="col">kernels</th>
              {converted && <th scope="col">word</th>}
              <th scope="col">{converted ? "what changes" : "reading"}</th>
            </tr>
          </thead>
          <tbody>
            {eras.map(({ era, kernels, word, text }) => (
              <tr key={era}>
                <th scope="row">{kernels}</th>
                {converted && (
                  <td>
                    <a href={`#/decode?kind=role&kernel=${era}&word=${word!.toString(16)}`}>
                      <code>0x{word!.toString(16)}</code>
                    </a>
                  </td>
                )}
                <td>{text}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}
