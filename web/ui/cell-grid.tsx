/** A grid of small cells of which one has the focus: arrows move, Enter opens, Backspace goes back. */
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

export interface GridCell {
  /** What it is, in words. */
  readonly label: string;
  readonly className: string;
  /** Custom properties, by name. */
  readonly properties?: Readonly<Record<string, string>>;
}

interface CellGridProps {
  readonly label: string;
  readonly columns: number;
  readonly cells: readonly GridCell[];
  readonly current: number;
  readonly onCurrent: (index: number) => void;
  readonly onOpen: (index: number) => void;
  readonly onBack: () => void;
  /** Changes when other cells are shown: the current one gets the focus if a cell had it. */
  readonly of: string;
}

export function CellGrid({ label, columns, cells, current, onCurrent, onOpen, onBack, of }: CellGridProps) {
  const box = useRef<HTMLDivElement>(null);
  const elements = () => box.current!.querySelectorAll<HTMLElement>("[role=gridcell]");
  const focused = useRef(false);
  // Keys may come faster than the page is drawn: each goes on from where the one before led.
  const at = useRef(current);
  at.current = current;
  useEffect(() => {
    if (focused.current) elements()[current]?.focus();
  }, [of]);
  useLayoutEffect(() => {
    elements().forEach((element, index) => {
      for (const [name, value] of Object.entries(cells[index]?.properties ?? {}))
        element.style.setProperty(name, value);
    });
  }, [cells, columns]);
  const move = (to: number) => {
    const index = Math.max(0, Math.min(cells.length - 1, to));
    at.current = index;
    onCurrent(index);
    elements()[index]?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const steps: Record<string, number> = {
      ArrowRight: 1,
      ArrowLeft: -1,
      ArrowDown: columns,
      ArrowUp: -columns,
      PageDown: columns * 4,
      PageUp: -columns * 4,
      Home: -at.current,
      End: cells.length,
    };
    const step = steps[event.key];
    if (step !== undefined) move(at.current + step);
    else if (event.key === "Enter" || event.key === " ") onOpen(at.current);
    else if (event.key === "Backspace" || event.key === "Escape") onBack();
    else return;
    event.preventDefault();
  };
  const rows = [];
  for (let first = 0; first < cells.length; first += columns) {
    rows.push(
      // biome-ignore lint/a11y/useFocusableInteractive: its cells have the focus
      <div key={first} role="row" class="cell-row">
        {cells.slice(first, first + columns).map(({ label: name, className }, offset) => {
          const index = first + offset;
          return (
            // biome-ignore lint/a11y/useKeyWithClickEvents: the grid takes the keys of all
            <div
              key={index}
              role="gridcell"
              aria-label={name}
              tabIndex={index === current ? 0 : -1}
              class={`cell ${className}`}
              onClick={() => {
                onCurrent(index);
                onOpen(index);
              }}
              onFocus={() => onCurrent(index)}
              onPointerEnter={(event) => {
                if (event.pointerType === "mouse" && !focused.current) onCurrent(index);
              }}
            />
          );
        })}
      </div>,
    );
  }
  return (
    <div
      ref={box}
      role="grid"
      aria-label={label}
      class="cell-grid"
      onKeyDown={onKeyDown}
      onFocusIn={() => {
        focused.current = true;
      }}
      onFocusOut={() => {
        focused.current = false;
      }}
    >
      {rows}
    </div>
  );
}
