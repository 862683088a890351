// The images of a study: only those on the page are elements of it.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { type Layout, layOut, lineAt, moved, shapeOf } from "./lines";
import type { Table } from "./protocol";
import { Sheet } from "./sheet";
import type { Thumbnails } from "./thumbnails";

interface Props {
  readonly table: Table;
  /** Places in the table. */
  readonly shown: Int32Array;
  readonly thumbnails: Thumbnails;
  /** Number of the row under the cursor, and of the open one; -1 for none. */
  readonly active: number;
  readonly opened: number;
  readonly activate: (row: number) => void;
  readonly open: (row: number) => void;
}

const KEYS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End"];
/** Beside the images, for the outline of the focus. */
const MARGIN = 6;
/** Milliseconds after the last scroll. */
const REST = 300;
let views = 0;

export function Grid({ table, shown, thumbnails, active, opened, activate, open }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(600);
  const [height, setHeight] = useState(420);
  const [name] = useState(() => `dv-grid-${views++}`);
  const rest = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const [sheet] = useState(() => new Sheet(name, (row) => thumbnails.image(row)));
  const shape = useMemo(() => shapeOf(table), [table]);
  const layout = useMemo(() => layOut(table, shown, width, shape), [table, shown, width, shape]);

  const look = () => {
    const top = box.current?.scrollTop ?? 0;
    const first = Math.max(0, lineAt(layout.lines, top) - 1);
    const last = Math.min(layout.lines.length - 1, lineAt(layout.lines, top + height) + 1);
    thumbnails.want(sheet.show(first, last));
    clearTimeout(rest.current);
    rest.current = setTimeout(() => sheet.sort(), REST);
  };
  useLayoutEffect(() => {
    box.current?.append(sheet.element);
    return thumbnails.watch((rows) => sheet.paint(rows));
  }, []);
  useLayoutEffect(() => {
    sheet.lay(table, layout, shape);
    look();
  }, [layout]);
  useLayoutEffect(look, [height]);
  useLayoutEffect(() => sheet.mark(active, opened), [active, opened]);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(() => {
      setWidth(element.clientWidth - 2 * MARGIN);
      setHeight(element.clientHeight);
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    if (box.current) box.current.scrollTop = 0;
  }, [shown]);

  useLayoutEffect(() => {
    const entry = opened < 0 ? -1 : layout.order.findIndex((place) => table.rows[place] === opened);
    if (entry >= 0) reveal(box.current, layout, entry);
  }, [opened]);

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter" || event.key === " ") {
      if (active >= 0) open(active);
      event.preventDefault();
    } else if (KEYS.includes(event.key) && layout.order.length > 0) {
      const from = layout.order.findIndex((place) => table.rows[place] === active);
      const entry = moved(layout, from, event.key, height);
      reveal(box.current, layout, entry);
      activate(table.rows[layout.order[entry] as number] as number);
      event.preventDefault();
    }
  };
  return (
    <div
      ref={box}
      class="dv-grid"
      role="listbox"
      tabIndex={0}
      aria-label="Final images. Arrow keys choose one, Enter opens its run."
      aria-activedescendant={active >= 0 ? `${name}-${active}` : undefined}
      data-testid="grid"
      onScroll={look}
      onKeyDown={onKeyDown}
      onMouseDown={(event) => {
        // The focus stays on the grid, whose cells come and go.
        if (rowAt(event) === null) return;
        event.preventDefault();
        box.current?.focus({ preventScroll: true });
      }}
      onClick={(event) => {
        const row = rowAt(event);
        if (row === null) return;
        activate(row);
        open(row);
      }}
    />
  );
}

function rowAt({ target }: Event): number | null {
  const cell = (target as Element).closest<HTMLElement>("[data-row]");
  return cell ? Number(cell.dataset.row) : null;
}

function reveal(box: HTMLElement | null, layout: Layout, entry: number): void {
  const line = layout.lines[layout.lineOf[entry] as number];
  if (!box || !line) return;
  const above = entry === 0 ? 0 : line.top - (layout.lines[(layout.lineOf[entry] as number) - 1]?.isHeading ? 28 : 0);
  if (above < box.scrollTop) box.scrollTop = above;
  else if (line.top + line.height > box.scrollTop + box.clientHeight)
    box.scrollTop = line.top + line.height - box.clientHeight;
}
