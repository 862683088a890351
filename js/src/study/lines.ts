// Lays out the shown rows: lines of images under the prompts, which scroll as one column.

import type { Table } from "./protocol";

/** Heights and widths in pixels; a cell is as wide as its image, with a caption below. */
export const CELL = 84;
export const GAP = 6;
const CAPTION = 18;
/** Of two lines. */
const LONG_CAPTION = 34;
export const HEADING = 28;
export const LABEL = 92;

/** How the rows are laid out. */
export interface Shape {
  /** What stands under an image. */
  readonly caption: "prompt" | "seed" | "condition";
  /** Whether lines have the condition at their left. */
  readonly labelled: boolean;
}

export interface Line {
  readonly top: number;
  readonly height: number;
  /** Of a heading: its text; else of the lines that begin a condition: that. */
  readonly text: string;
  readonly isHeading: boolean;
  /** Places in the table. */
  readonly cells: readonly number[];
}

export interface Layout {
  readonly lines: readonly Line[];
  readonly height: number;
  /** Places in the table, in the order of the cells. */
  readonly order: Int32Array;
  /** Index of the line of each entry of `order`. */
  readonly lineOf: Int32Array;
}

/** Chooses by the whole table, so that filters do not change it. */
export function shapeOf(table: Table): Shape {
  const seeds = new Set(table.seeds).size;
  if (seeds * table.conditions.length === 1 || table.prompts.length * table.conditions.length === table.rows.length)
    if (table.conditions.length === 1) return { caption: "prompt", labelled: false };
  if (table.prompts.length * table.conditions.length >= table.rows.length)
    return { caption: "condition", labelled: false };
  return { caption: "seed", labelled: table.conditions.length > 1 };
}

/** How many cells fit beside each other. */
export function cellsPerLine(width: number, shape: Shape): number {
  return Math.max(1, Math.floor((width - (shape.labelled ? LABEL : 0) + GAP) / (CELL + GAP)));
}

export function captionHeight(shape: Shape): number {
  return shape.caption === "seed" ? CAPTION : LONG_CAPTION;
}

/** `shown`: places in the table, rising, so that rows of a prompt, and within it of a seed, follow each other. */
export function layOut(table: Table, shown: Int32Array, width: number, shape: Shape): Layout {
  const perLine = cellsPerLine(width, shape);
  const height = CELL + captionHeight(shape) + GAP;
  const lines: Line[] = [];
  const order = new Int32Array(shown.length);
  const lineOf = new Int32Array(shown.length);
  let top = 0;
  let placed = 0;
  const add = (places: readonly number[], label: string) => {
    for (let start = 0; start < places.length; start += perLine) {
      const cells = places.slice(start, start + perLine);
      for (const place of cells) {
        order[placed] = place;
        lineOf[placed++] = lines.length;
      }
      lines.push({ top, height, text: start === 0 ? label : "", isHeading: false, cells });
      top += height;
    }
  };
  if (shape.caption === "prompt") add([...shown], "");
  else
    for (let start = 0; start < shown.length; ) {
      const prompt = table.promptOf[shown[start] as number] as number;
      let end = start;
      while (end < shown.length && table.promptOf[shown[end] as number] === prompt) end++;
      lines.push({ top, height: HEADING, text: table.prompts[prompt] ?? "", isHeading: true, cells: [] });
      top += HEADING;
      const group = Array.from(shown.subarray(start, end));
      if (!shape.labelled) add(group, "");
      else
        table.conditions.forEach((name, condition) => {
          const places = group.filter((place) => table.conditionOf[place] === condition);
          add(places, name);
        });
      start = end;
    }
  return { lines, height: top, order, lineOf };
}

/** Index of the line at a height: the last one that begins there or above. */
export function lineAt(lines: readonly Line[], y: number): number {
  let [low, high] = [0, lines.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((lines[middle] as Line).top <= y) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The entry of `order` that a key leads to from another one. */
export function moved(layout: Layout, from: number, key: string, pageHeight: number): number {
  const last = layout.order.length - 1;
  if (from < 0) return key === "End" ? last : Math.min(0, last);
  const within = (entry: number) => Math.max(0, Math.min(last, entry));
  switch (key) {
    case "ArrowLeft":
      return within(from - 1);
    case "ArrowRight":
      return within(from + 1);
    case "Home":
      return within(0);
    case "End":
      return last;
    case "ArrowUp":
      return vertical(layout, from, -1);
    case "ArrowDown":
      return vertical(layout, from, 1);
    case "PageUp":
    case "PageDown": {
      const line = layout.lines[layout.lineOf[from] as number] as Line;
      const lines = Math.max(1, Math.floor(pageHeight / line.height));
      let entry = from;
      for (let k = 0; k < lines; k++) entry = vertical(layout, entry, key === "PageUp" ? -1 : 1);
      return entry;
    }
    default:
      return from;
  }
}

/** The cell above or below: of the same column, or the last one of a shorter line. */
function vertical({ lineOf, lines }: Layout, from: number, by: 1 | -1): number {
  const at = lineOf[from] as number;
  let column = 0;
  while (column < from && lineOf[from - column - 1] === at) column++;
  const size = (lines[at] as Line).cells.length;
  const first = from - column;
  const edge = by === 1 ? first + size : first - 1;
  const next = lineOf[edge];
  if (next === undefined) return from;
  const length = (lines[next] as Line).cells.length;
  const start = by === 1 ? edge : edge - length + 1;
  return start + Math.min(column, length - 1);
}
