// The images of a study: only those on the page are elements of it.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { captionHeight, type Layout, type Line, layOut, lineAt, moved, shapeOf } from "./lines";
import type { Table } from "./protocol";
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
let views = 0;

export function Grid({ table, shown, thumbnails, active, opened, activate, open }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(600);
  const [height, setHeight] = useState(420);
  const [range, setRange] = useState<readonly [first: number, last: number]>([0, 0]);
  const [name] = useState(() => `dv-grid-${views++}`);
  const shape = useMemo(() => shapeOf(table), [table]);
  const layout = useMemo(() => layOut(table, shown, width, shape), [table, shown, width, shape]);

  const look = () => {
    const top = box.current?.scrollTop ?? 0;
    const first = Math.max(0, lineAt(layout.lines, top) - 1);
    const last = Math.min(layout.lines.length - 1, lineAt(layout.lines, top + height) + 1);
    setRange((before) => (before[0] === first && before[1] === last ? before : [first, last]));
  };
  useLayoutEffect(look, [layout, height]);
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

  const lines = layout.lines.slice(range[0], range[1] + 1);
  const wanted = lines.flatMap(({ cells }) => cells.map((place) => table.rows[place] as number));
  useEffect(() => thumbnails.want(wanted), [layout, range]);

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
    >
      <div class="dv-sheet" role="presentation" style={{ height: `${layout.height}px` }}>
        {lines.map((line) => (
          <LineOf
            key={`${line.top} ${line.cells[0] ?? line.text}`}
            line={line}
            caption={(place) => captionOf(table, place, shape.caption)}
            captionHeight={captionHeight(shape)}
            labelled={shape.labelled}
            cell={(place) => {
              const row = table.rows[place] as number;
              return {
                id: `${name}-${row}`,
                title: titleOf(table, place),
                url: thumbnails.url(row),
                error: table.errors[String(row)],
                isActive: row === active,
                isOpen: row === opened,
                row,
              };
            }}
          />
        ))}
      </div>
    </div>
  );
}

interface Cell {
  readonly id: string;
  readonly title: string;
  readonly url: string | undefined;
  readonly error: string | undefined;
  readonly isActive: boolean;
  readonly isOpen: boolean;
  readonly row: number;
}

interface LineProps {
  readonly line: Line;
  readonly caption: (place: number) => string;
  readonly captionHeight: number;
  readonly labelled: boolean;
  readonly cell: (place: number) => Cell;
}

function LineOf({ line, caption, captionHeight, labelled, cell }: LineProps) {
  const style = { transform: `translateY(${line.top}px)`, height: `${line.height}px` };
  if (line.isHeading)
    return (
      <p class="dv-heading" role="presentation" style={style} title={line.text}>
        {line.text}
      </p>
    );
  return (
    <div class="dv-cells" role="presentation" style={style}>
      {labelled ? (
        <span class="dv-label dv-soft" title={line.text}>
          {line.text}
        </span>
      ) : null}
      {line.cells.map((place) => {
        const { id, title, url, error, isActive, isOpen, row } = cell(place);
        return (
          <div
            key={place}
            id={id}
            class="dv-cell"
            role="option"
            tabIndex={-1}
            data-row={row}
            aria-label={error ? `${title}: failed` : title}
            aria-selected={isOpen}
            title={error ? `${title}\n${error}` : title}
            data-active={isActive || undefined}
            data-failed={error ? true : undefined}
          >
            {url ? <img src={url} alt="" decoding="async" /> : <i>{error ? "failed" : url === "" ? "no image" : ""}</i>}
            <span class="dv-soft" style={{ height: `${captionHeight - 2}px` }}>
              {caption(place)}
            </span>
          </div>
        );
      })}
    </div>
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

function captionOf(table: Table, place: number, caption: "prompt" | "seed" | "condition"): string {
  if (caption === "prompt") return table.prompts[table.promptOf[place] as number] ?? "";
  if (caption === "condition") return table.conditions[table.conditionOf[place] as number] ?? "";
  return `seed ${table.seeds[place]}`;
}

function titleOf(table: Table, place: number): string {
  const condition = table.conditions.length > 1 ? `, ${captionOf(table, place, "condition")}` : "";
  return `${captionOf(table, place, "prompt")}, seed ${table.seeds[place]}${condition}`;
}
