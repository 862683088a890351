// The elements of the grid: the same ones show other lines as it scrolls.
// @vitest-environment happy-dom

import { expect, test } from "vitest";
import { layOut, shapeOf } from "../../src/study/lines";
import type { Table } from "../../src/study/protocol";
import { Sheet } from "../../src/study/sheet";

const SEEDS = 4;

/** So many prompts with four seeds under two conditions; the last row failed. */
function table(prompts: number): Table {
  const count = prompts * SEEDS * 2;
  const of = (value: (row: number) => number) => Int32Array.from({ length: count }, (_, row) => value(row));
  return {
    prompts: Array.from({ length: prompts }, (_, n) => `prompt ${n}`),
    conditions: ["uniform", "early"],
    columns: [],
    errors: { [count - 1]: "ValueError: no" },
    rows: of((row) => row),
    promptOf: of((row) => Math.floor(row / (SEEDS * 2))),
    conditionOf: of((row) => row % 2),
    seeds: Float64Array.from(of((row) => Math.floor(row / 2) % SEEDS)),
  };
}

function sheetOf(prompts: number, width = 600) {
  const images = new Map<number, HTMLImageElement | "">();
  const sheet = new Sheet("grid", (row) => images.get(row));
  const rows = table(prompts);
  const shape = shapeOf(rows);
  const lay = (shown = rows.rows, newWidth = width) => {
    const layout = layOut(rows, shown, newWidth, shape);
    sheet.lay(rows, layout, shape);
    return layout;
  };
  const shownRows = () => {
    const cells = [...sheet.element.querySelectorAll<HTMLElement>("[data-row]")];
    return cells.map((cell) => Number(cell.dataset.row));
  };
  const cell = (row: number) => sheet.element.querySelector<HTMLElement>(`#grid-${row}`) as HTMLElement;
  return { sheet, images, rows, lay, shownRows, cell };
}

const sorted = (rows: readonly number[]) => [...rows].sort((a, b) => a - b);

test("any place of a long grid is shown by the elements of the first one", () => {
  const { sheet, lay, shownRows } = sheetOf(500);
  const layout = lay();
  sheet.show(0, 11);
  const elements = new Set(sheet.element.querySelectorAll("*"));
  let made = 0;
  for (const first of [1, 300, 5, 1400, layout.lines.length - 12]) {
    const returned = sheet.show(first, first + 11);
    const cells = layout.lines.slice(first, first + 12).flatMap((line) => line.cells);
    expect(sorted(shownRows())).toEqual(sorted(cells));
    expect(sorted(returned)).toEqual(sorted(cells));
    for (const element of sheet.element.querySelectorAll("*")) made += Number(!elements.has(element));
    const headings = [...sheet.element.querySelectorAll<HTMLElement>(".dv-heading")];
    const expected = layout.lines.slice(first, first + 12).filter((line) => line.isHeading);
    expect(headings.map((heading) => heading.textContent).sort()).toEqual(expected.map(({ text }) => text).sort());
    sheet.sort();
    expect(shownRows()).toEqual(cells);
    expect(sheet.element.firstElementChild?.textContent).toContain(layout.lines[first]?.text);
  }
  expect(made).toBe(0);
});

test("a cell that is used again has nothing of the row before", () => {
  const { sheet, images, lay, rows, cell } = sheetOf(2);
  const layout = lay();
  const image = document.createElement("img");
  images.set(0, image);
  sheet.show(0, 2);
  sheet.mark(0, 0);
  expect(cell(0).firstChild).toBe(image);
  expect([cell(0).dataset.active, cell(0).ariaSelected, cell(0).title]).toEqual([
    "true",
    "true",
    "prompt 0, seed 0, uniform",
  ]);
  sheet.show(3, layout.lines.length - 1);
  expect(sheet.element.querySelector("#grid-0")).toBeNull();
  expect(sheet.element.contains(image)).toBe(false);
  const last = cell(rows.rows.length - 1);
  expect(last.textContent).toBe("failedseed 3");
  expect(last.title).toBe("prompt 1, seed 3, early\nValueError: no");
  expect([last.dataset.active, last.ariaSelected, last.dataset.failed]).toEqual([undefined, "false", "true"]);
  sheet.show(0, 2);
  expect(cell(0).firstChild).toBe(image);
  expect(cell(0).dataset.active).toBe("true");
  expect(cell(2).dataset.failed).toBeUndefined();
});

test("an image that comes later, or stands in another column afterwards, is in its row's cell alone", () => {
  const { sheet, images, lay, rows, cell } = sheetOf(2);
  sheet.show(0, lay().lines.length - 1);
  const pictures = Array.from(rows.rows, () => document.createElement("img"));
  for (const [row, image] of pictures.entries()) images.set(row, image);
  images.set(5, "");
  sheet.paint(rows.rows);
  const check = (shown: Int32Array) => {
    for (const row of shown) {
      expect(cell(row).children.length).toBe(2);
      if (row === 5) expect(cell(row).firstChild?.textContent).toBe("no image");
      else expect(cell(row).firstChild).toBe(pictures[row]);
    }
  };
  check(rows.rows);
  for (const width of [280, 900, 330]) {
    sheet.show(0, lay(rows.rows, width).lines.length - 1);
    check(rows.rows);
  }
  const filtered = rows.rows.filter((row) => row % 3 !== 0);
  sheet.show(0, lay(filtered).lines.length - 1);
  check(filtered);
});
