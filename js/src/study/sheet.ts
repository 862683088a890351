// The lines of the grid that are on the page. Their elements are used again for other lines as it scrolls, because making
// some eighty cells anew takes longer than a frame.

import type { Layout, Line, Shape } from "./lines";
import { captionHeight } from "./lines";
import type { Table } from "./protocol";

/** An image; "" where the study has none, undefined until it is here. */
export type Thumbnail = HTMLImageElement | "" | undefined;

interface Cell {
  readonly element: HTMLElement;
  readonly caption: Text;
  /** In the place of an image. */
  readonly text: HTMLElement;
  /** The image or the text. An image that another cell has taken since is not in this one. */
  picture: HTMLElement;
  row: number;
}

interface Slot {
  readonly element: HTMLElement;
  readonly text: HTMLElement | null;
  readonly cells: Cell[];
}

export class Sheet {
  readonly element = make("div", "dv-sheet");
  readonly #name: string;
  readonly #image: (row: number) => Thumbnail;
  #table: Table | null = null;
  #shape: Shape = { caption: "seed", labelled: false };
  #layout: Layout | null = null;
  #active = -1;
  #opened = -1;
  /** By the index of their line. */
  readonly #shown = new Map<number, Slot>();
  readonly #free: { readonly headings: Slot[]; readonly lines: Slot[] } = { headings: [], lines: [] };
  readonly #cells = new Map<number, Cell>();

  /** `name` begins the ids of the cells, `image` gives the images by row. */
  constructor(name: string, image: (row: number) => Thumbnail) {
    this.#name = name;
    this.#image = image;
    this.element.setAttribute("role", "presentation");
  }

  /** Lays the rows out anew; `show` must follow. */
  lay(table: Table, layout: Layout, shape: Shape): void {
    for (const index of this.#shown.keys()) this.#release(index);
    if (shape !== this.#shape) this.#free.headings.length = this.#free.lines.length = 0;
    this.element.replaceChildren();
    [this.#table, this.#layout, this.#shape] = [table, layout, shape];
    this.element.style.height = `${layout.height}px`;
  }

  /** Shows these lines, and no others. Returns the rows in them. */
  show(first: number, last: number): number[] {
    if (!this.#layout) return [];
    for (const index of this.#shown.keys()) if (index < first || index > last) this.#release(index);
    for (let index = first; index <= last; index++)
      if (!this.#shown.has(index)) this.#fill(index, this.#layout.lines[index] as Line);
    for (const { element } of [...this.#free.headings, ...this.#free.lines]) element.remove();
    return [...this.#cells.keys()];
  }

  /** Brings the elements into the order of their lines, for those who read them one after the other. */
  sort(): void {
    const slots = [...this.#shown].sort(([a], [b]) => a - b);
    slots.forEach(([, { element }], place) => {
      if (this.element.children[place] !== element)
        this.element.insertBefore(element, this.element.children[place] ?? null);
    });
  }

  /** Marks the row under the cursor and the open one; -1 for none. */
  mark(active: number, opened: number): void {
    const before = [this.#active, this.#opened];
    [this.#active, this.#opened] = [active, opened];
    for (const row of [...before, active, opened]) {
      const cell = this.#cells.get(row);
      if (cell) this.#describe(cell);
    }
  }

  /** Puts images that have come into their cells. */
  paint(rows: Iterable<number>): void {
    for (const row of rows) {
      const cell = this.#cells.get(row);
      if (cell) this.#picture(cell);
    }
  }

  #release(index: number): void {
    const slot = this.#shown.get(index) as Slot;
    this.#shown.delete(index);
    for (const cell of slot.cells) if (this.#cells.get(cell.row) === cell) this.#cells.delete(cell.row);
    (slot.element === slot.text ? this.#free.headings : this.#free.lines).push(slot);
  }

  #fill(index: number, line: Line): void {
    const slot =
      (line.isHeading ? this.#free.headings : this.#free.lines).pop() ??
      (line.isHeading ? this.#heading() : this.#line());
    this.#shown.set(index, slot);
    if (!slot.element.parentNode) this.element.append(slot.element);
    slot.element.style.transform = `translateY(${line.top}px)`;
    if (slot.text && slot.text.textContent !== line.text) {
      slot.text.textContent = line.text;
      slot.text.title = line.text;
    }
    if (line.isHeading) return;
    while (slot.cells.length < line.cells.length) slot.cells.push(this.#cell());
    slot.cells.forEach((cell, column) => {
      const place = line.cells[column];
      if (place === undefined) cell.element.remove();
      else {
        if (cell.element.parentNode !== slot.element) slot.element.append(cell.element);
        this.#setRow(cell, place);
      }
    });
  }

  #setRow(cell: Cell, place: number): void {
    const table = this.#table as Table;
    cell.row = table.rows[place] as number;
    this.#cells.set(cell.row, cell);
    const title = titleOf(table, place);
    const error = table.errors[String(cell.row)];
    const { element } = cell;
    element.id = `${this.#name}-${cell.row}`;
    element.dataset.row = String(cell.row);
    element.title = error ? `${title}\n${error}` : title;
    element.ariaLabel = error ? `${title}: failed` : title;
    set(element, "failed", error !== undefined);
    const caption = captionOf(table, place, this.#shape.caption);
    if (cell.caption.data !== caption) cell.caption.data = caption;
    this.#describe(cell);
    this.#picture(cell);
  }

  #describe({ element, row }: Cell): void {
    set(element, "active", row === this.#active);
    const selected = String(row === this.#opened);
    if (element.ariaSelected !== selected) element.ariaSelected = selected;
  }

  #picture(cell: Cell): void {
    const { element, text, picture } = cell;
    const image = this.#image(cell.row);
    if (!image) {
      const words = element.dataset.failed ? "failed" : image === "" ? "no image" : "";
      if (text.textContent !== words) text.textContent = words;
    }
    cell.picture = image || text;
    if (picture.parentNode !== element) element.prepend(cell.picture);
    else if (picture !== cell.picture) picture.replaceWith(cell.picture);
  }

  #heading(): Slot {
    const element = make("p", "dv-heading");
    element.setAttribute("role", "presentation");
    return { element, text: element, cells: [] };
  }

  #line(): Slot {
    const element = make("div", "dv-cells");
    element.setAttribute("role", "presentation");
    const text = this.#shape.labelled ? make("span", "dv-label dv-soft") : null;
    if (text) element.append(text);
    return { element, text, cells: [] };
  }

  #cell(): Cell {
    const element = make("div", "dv-cell");
    element.setAttribute("role", "option");
    element.tabIndex = -1;
    const [text, label, caption] = [make("i"), make("span", "dv-soft"), document.createTextNode("")];
    label.style.height = `${captionHeight(this.#shape) - 2}px`;
    label.append(caption);
    element.append(text, label);
    return { element, caption, text, picture: text, row: -1 };
  }
}

function make(name: string, className = ""): HTMLElement {
  const element = document.createElement(name);
  element.className = className;
  return element;
}

function set(element: HTMLElement, name: string, value: boolean): void {
  if (value) element.dataset[name] = "true";
  else if (name in element.dataset) delete element.dataset[name];
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
