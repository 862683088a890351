// The layout of a study's images, and where the keys lead.

import { describe, expect, test } from "vitest";
import { CELL, cellsPerLine, GAP, LABEL, layOut, lineAt, moved, shapeOf } from "../../src/study/lines";
import type { Table } from "../../src/study/protocol";

/** Rows of prompts x seeds x conditions, in the order of a study's table. */
function tableOf(prompts: number, seeds: number, conditions: readonly string[]): Table {
  const total = prompts * seeds * conditions.length;
  const places = Array.from({ length: total }, (_, place) => place);
  return {
    prompts: Array.from({ length: prompts }, (_, n) => `prompt ${n}`),
    conditions,
    columns: [],
    errors: {},
    rows: Int32Array.from(places),
    promptOf: Int32Array.from(places, (place) => Math.floor(place / (seeds * conditions.length))),
    conditionOf: Int32Array.from(places, (place) => place % conditions.length),
    seeds: Float64Array.from(places, (place) => Math.floor(place / conditions.length) % seeds),
  };
}

const wide = 4 * (CELL + GAP);
const all = (table: Table) => table.rows.slice();

describe("lines", () => {
  test("a prompt has a heading and its seeds beside each other", () => {
    const table = tableOf(2, 3, ["default"]);
    const { lines, order } = layOut(table, all(table), wide, shapeOf(table));
    expect(lines.map(({ isHeading, text, cells }) => (isHeading ? text : cells))).toEqual([
      "prompt 0",
      [0, 1, 2],
      "prompt 1",
      [3, 4, 5],
    ]);
    expect([...order]).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test("each condition has a line of its own, with the same seeds below each other", () => {
    const table = tableOf(1, 3, ["uniform", "early"]);
    const { lines } = layOut(table, all(table), wide + LABEL, shapeOf(table));
    expect(lines.slice(1).map(({ text, cells }) => [text, cells])).toEqual([
      ["uniform", [0, 2, 4]],
      ["early", [1, 3, 5]],
    ]);
  });

  test("more seeds than fit continue on the next line, without a second label", () => {
    const table = tableOf(1, 10, ["uniform", "early"]);
    const shape = shapeOf(table);
    const perLine = cellsPerLine(wide + LABEL, shape);
    const { lines } = layOut(table, all(table), wide + LABEL, shape);
    expect(perLine).toBe(4);
    expect(lines.slice(1).map(({ text, cells }) => [text, cells.length])).toEqual([
      ["uniform", 4],
      ["", 4],
      ["", 2],
      ["early", 4],
      ["", 4],
      ["", 2],
    ]);
  });

  test("prompts with one seed each show their conditions, or follow each other", () => {
    const several = tableOf(3, 1, ["uniform", "early"]);
    expect(shapeOf(several)).toEqual({ caption: "condition", labelled: false });
    const single = tableOf(9, 1, ["default"]);
    const { lines } = layOut(single, all(single), wide, shapeOf(single));
    expect(shapeOf(single)).toEqual({ caption: "prompt", labelled: false });
    expect(lines.map(({ cells }) => cells.length)).toEqual([4, 4, 1]);
  });

  test("lines lie below each other without gaps, whatever is filtered", () => {
    const table = tableOf(5, 7, ["uniform", "early"]);
    const shown = all(table).filter((place) => place % 3 > 0);
    const { lines, height, order } = layOut(table, shown, wide, shapeOf(table));
    let top = 0;
    for (const line of lines) {
      expect(line.top).toBe(top);
      top += line.height;
    }
    expect(height).toBe(top);
    expect([...order].sort((a, b) => a - b)).toEqual([...shown]);
    for (const line of lines) {
      expect(lines[lineAt(lines, line.top)]).toBe(line);
      expect(lines[lineAt(lines, line.top + line.height - 1)]).toBe(line);
    }
  });
});

describe("keys", () => {
  const table = tableOf(2, 6, ["default"]); // lines of 4 and 2
  const layout = layOut(table, all(table), wide, shapeOf(table));

  test.each([
    ["ArrowRight", 3, 4],
    ["ArrowLeft", 4, 3],
    ["ArrowLeft", 0, 0],
    ["ArrowDown", 1, 5],
    ["ArrowDown", 3, 5], // the next line is shorter
    ["ArrowDown", 5, 7], // past the heading of the next prompt
    ["ArrowUp", 7, 5],
    ["ArrowUp", 2, 2],
    ["ArrowDown", 11, 11],
    ["Home", 9, 0],
    ["End", 2, 11],
    ["PageDown", 0, 6],
  ])("%s leads from %i to %i", (key, from, to) => {
    expect(moved(layout, from, key, 230)).toBe(to);
  });

  test("the first key chooses the first image, or the last one", () => {
    expect(moved(layout, -1, "ArrowDown", 230)).toBe(0);
    expect(moved(layout, -1, "End", 230)).toBe(11);
  });
});
