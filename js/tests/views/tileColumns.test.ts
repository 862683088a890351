// The columns of the small heat maps.

import { expect, it } from "vitest";
import { rowEdge, tileColumns } from "../../src/views/tileColumns";

it.each([
  [[1], 264, 460, 1],
  [[7], 432, 466, 4],
  [[7], 272, 466, 3],
  [[7], 293, 179, 4],
  [[7], 388, 230, 5],
])("gives %j tiles in %i x %i px the fewest columns in which they fit: %i", (groups, width, height, columns) => {
  expect(tileColumns(groups, 0, 1, width, height)).toBe(columns);
});

it("uses small tiles where not even these fit", () => {
  expect(tileColumns([200], 0, 1, 292, 460)).toBe(4);
  expect(tileColumns([3], 0, 1, 40, 40)).toBe(1);
});

it("counts the rows of each group and the headings between them", () => {
  const height = 2 * 160 + 6;
  expect(tileColumns([6], 0, 1, 376, height)).toBe(3);
  expect(tileColumns([3, 3], 0, 1, 376, height)).toBe(3);
  expect(tileColumns([3, 3], 2, 1, 376, height)).toBeGreaterThan(3);
});

it("gives wide maps fewer columns than square ones, and high maps more", () => {
  expect(tileColumns([7], 0, 1, 272, 466)).toBe(3);
  expect(tileColumns([7], 0, 2, 272, 466)).toBe(2);
  expect(tileColumns([7], 0, 0.5, 272, 466)).toBe(4);
});

it("fills the width with tiles of the largest size", () => {
  expect(tileColumns([6], 0, 1, 1340, 230)).toBe(6);
  expect(tileColumns([20], 0, 1, 1340, 2000)).toBe(10);
  expect(tileColumns([3, 2], 2, 1, 1340, 2000)).toBe(3);
});

it("puts tiles into one row, the last one cut in half, where a second row would be cut", () => {
  const edge = rowEdge(7, 5, 1, 340, 120) as number;
  expect(4.5 * edge + 4 * 8).toBeCloseTo(340);
  expect(rowEdge(7, 5, 1, 340, 190)).not.toBeNull();
  expect(rowEdge(7, 5, 1, 340, 200)).toBeNull();
  expect(rowEdge(5, 5, 1, 340, 90)).toBeNull();
  expect(rowEdge(90, 5, 1, 340, 120)).toBeNull();
});
