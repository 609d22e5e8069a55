/** Work that is going on, with its progress and a button that ends it. */

export interface ShownTask {
  readonly id: number;
  readonly label: string;
  readonly done: number | undefined;
  cancel(): void;
}

export function TaskBar({ tasks }: { tasks: readonly ShownTask[] }) {
  return (
    <div class="tasks" aria-live="polite">
      {tasks.map(({ id, label, done, cancel }) => (
        <p key={id} class="task">
          <label>
            {label} <progress {...(done === undefined ? {} : { value: done })} max={1} />
          </label>
          <button type="button" onClick={cancel}>
            Cancel<span class="unseen"> {label}</span>
          </button>
        </p>
      ))}
    </div>
  );
}
