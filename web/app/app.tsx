/** The page around the views: navigation, tasks that run, what went wrong. */
import { useLayoutEffect, useRef } from "preact/hooks";
import { problem } from "../state/problem.js";
import { hrefOf, route, VIEW_NAMES } from "../state/route.js";
import { tasks } from "../state/tasks.js";
import { Problem } from "../ui/problem.jsx";
import { TaskBar } from "../ui/task-bar.jsx";
import { VIEWS } from "./views.js";

export function App() {
  const { view } = route.value;
  const { title, component: Current } = VIEWS[view];
  const main = useRef<HTMLElement>(null);
  const shown = useRef(view);
  useLayoutEffect(() => {
    document.title = `${title} – x86-paging inspector`;
    // Who follows a link of the navigation goes on reading where it leads.
    if (shown.current !== view) main.current?.focus();
    shown.current = view;
  }, [view, title]);
  return (
    <>
      <a class="skip" href={`${hrefOf(view, route.value.params)}`} onClick={() => main.current?.focus()}>
        Skip to the view
      </a>
      <header class="top">
        <h1>x86-paging</h1>
        <nav aria-label="Views">
          {VIEW_NAMES.map((name) => (
            <a key={name} href={hrefOf(name)} aria-current={name === view ? "page" : undefined}>
              {VIEWS[name].title}
            </a>
          ))}
        </nav>
        <p class="hint">Everything runs in this browser; nothing leaves this machine.</p>
      </header>
      <TaskBar tasks={tasks.value} />
      <Problem problem={problem.value} onDismiss={() => (problem.value = undefined)} />
      <main ref={main} tabIndex={-1} aria-label={title}>
        <Current />
      </main>
    </>
  );
}
