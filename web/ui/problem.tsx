/** What went wrong, said at once to who does not see it, too. */

export function Problem({ problem, onDismiss }: { problem: string | undefined; onDismiss: () => void }) {
  return (
    <div role="alert" class="problem" hidden={problem === undefined}>
      {problem !== undefined && (
        <>
          <span>{problem}</span>
          <button type="button" onClick={onDismiss}>
            Dismiss
          </button>
        </>
      )}
    </div>
  );
}
