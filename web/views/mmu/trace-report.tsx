/** What a trace tells as a whole: what was found in it, what is missing from it, its faults. */
import type { TraceReport } from "x86-paging/trace";

export function TraceReportView({ report }: { report: TraceReport }) {
  const { findings, warnings, summary } = report;
  return (
    <section>
      <h2>What the trace tells</h2>
      {warnings.map(({ code, message }) => (
        <p key={code} class="bad">
          {message}
        </p>
      ))}
      <h3>
        {findings.length === 0
          ? "Nothing is found to be wrong"
          : `${findings.length} finding${findings.length === 1 ? "" : "s"}`}
      </h3>
      {findings.map(({ code, message, details, evidence }, index) => (
        <details key={index}>
          <summary>
            <strong>{code}</strong>: {message}
          </summary>
          {details.map((detail) => (
            <p key={detail}>{detail}</p>
          ))}
          <pre class="events">{evidence.map(({ line, text }) => `${line}: ${text}`).join("\n")}</pre>
        </details>
      ))}
      <h3>Page faults</h3>
      <div class="scroll" tabIndex={0} role="region" aria-label="Page faults">
        <table>
          <thead>
            <tr>
              <th scope="col">kind</th>
              <th scope="col">outcomes</th>
            </tr>
          </thead>
          <tbody>
            {summary.faults.map(({ format, access, present, reserved, outcomes }) => (
              <tr key={`${format} ${access} ${present} ${reserved}`}>
                <th scope="row">
                  {format} {access}, {reserved ? "reserved bits" : present ? "present" : "not present"}
                </th>
                <td>
                  {Object.entries(outcomes)
                    .filter(([, count]) => count > 0)
                    .map(([name, count]) => `${count} ${name}`)
                    .join(", ")}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
