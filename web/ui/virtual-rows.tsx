/**
 * A list of any length of which only what is in sight is in the page. Browsers end an element's height at some 17 to 33 million
 * pixels, where lists of a million rows do not end: beyond that, the scroll bar goes by proportion.
 */
import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";

/** Pixels that every browser can do. */
const MOST_HEIGHT = 8_000_000;
/** Rows beyond what is in sight, above and below. */
const MARGIN = 6;

export interface VirtualRowsProps {
  readonly label: string;
  readonly count: number;
  /** CSS pixels of a row. */
  readonly rowHeight: number;
  /** The content of a row; what is not there yet may be shown as such. */
  readonly row: (index: number) => ComponentChildren;
  /** Called with the rows in sight, so that they can be fetched. */
  readonly onRange?: (first: number, end: number) => void;
  /** A row to show. */
  readonly shown?: number;
  /** Which row is marked. */
  readonly selected?: number | undefined;
  /** A row was chosen, by a key or the pointer. */
  readonly onSelect?: (index: number) => void;
  /** A row was opened: Enter, or the pointer. */
  readonly onOpen?: (index: number) => void;
}

export function VirtualRows(props: VirtualRowsProps) {
  const { label, count, rowHeight, row, onRange, shown, selected, onSelect, onOpen } = props;
  const id = useId();
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(400);
  const whole = count * rowHeight;
  const virtual = Math.min(whole, MOST_HEIGHT);
  // How many rows' pixels one pixel of the scroll bar stands for.
  const factor = virtual > height ? (whole - height) / (virtual - height) : 1;
  const first = Math.max(0, Math.floor((top * factor) / rowHeight) - MARGIN);
  const end = Math.min(count, Math.ceil((top * factor + height) / rowHeight) + MARGIN);
  useLayoutEffect(() => {
    const element = box.current!;
    const observer = new ResizeObserver(() => setHeight(element.clientHeight));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => onRange?.(first, end), [first, end, count, onRange]);
  const bring = (index: number) => {
    const element = box.current!;
    const from = index * rowHeight;
    const at = element.scrollTop * factor;
    if (from >= at && from + rowHeight <= at + height) return;
    element.scrollTop = (from < at ? from : from + rowHeight - height) / factor;
  };
  useLayoutEffect(() => {
    if (shown !== undefined && shown < count) bring(shown);
  }, [shown, count]);
  // Keys may come faster than the page is drawn: each goes on from where the one before led.
  const at = useRef(selected);
  at.current = selected;
  const onKeyDown = (event: KeyboardEvent) => {
    const from = at.current;
    if (event.key === "Enter" && from !== undefined) onOpen?.(from);
    const page = Math.floor(height / rowHeight);
    const keys: Record<string, number> = {
      ArrowDown: (from ?? -1) + 1,
      ArrowUp: (from ?? 1) - 1,
      PageDown: (from ?? 0) + page,
      PageUp: (from ?? 0) - page,
      Home: 0,
      End: count - 1,
    };
    const to = keys[event.key];
    if (to === undefined || count === 0 || event.target !== box.current) return;
    event.preventDefault();
    const index = Math.max(0, Math.min(count - 1, to));
    at.current = index;
    bring(index);
    onSelect?.(index);
  };
  const rows = [];
  for (let index = first; index < end; index++) {
    rows.push(
      // biome-ignore lint/a11y/useKeyWithClickEvents: the list has the focus and takes the keys of all
      <div
        key={index}
        id={`${id}-${index}`}
        role="option"
        tabIndex={-1}
        class="row"
        aria-posinset={index + 1}
        aria-setsize={count}
        aria-selected={index === selected}
        onClick={() => {
          onSelect?.(index);
          onOpen?.(index);
        }}
      >
        {row(index)}
      </div>,
    );
  }
  return (
    <div
      ref={box}
      class="virtual"
      role="listbox"
      aria-label={label}
      aria-activedescendant={
        selected !== undefined && selected >= first && selected < end ? `${id}-${selected}` : undefined
      }
      tabIndex={0}
      onScroll={({ currentTarget }) => setTop(currentTarget.scrollTop)}
      onKeyDown={onKeyDown}
    >
      <div
        class="virtual-whole"
        role="presentation"
        ref={(element) => element?.style.setProperty("height", `${virtual}px`)}
      >
        <div
          class="virtual-part"
          role="presentation"
          ref={(element) => {
            element?.style.setProperty("transform", `translateY(${top - top * factor + first * rowHeight}px)`);
            element?.style.setProperty("--row-height", `${rowHeight}px`);
          }}
        >
          {rows}
        </div>
      </div>
    </div>
  );
}
