import { expect, it } from "vitest";
import { trace } from "../../src/stage/contours";

const SIZE = 64;
const field = (value: (x: number, y: number) => number) =>
  Float32Array.from({ length: SIZE * SIZE }, (_, i) => value((i % SIZE) + 0.5, Math.floor(i / SIZE) + 0.5));
const middle = SIZE / 2;
const hill = field((x, y) => 255 - Math.hypot(x - middle, y - middle));

function points(values: Float32Array, level: number): [number, number][] {
  const found: [number, number][] = [];
  const add = (x: number, y: number) => {
    found.push([x, y]);
  };
  trace({ moveTo: add, lineTo: add }, values, SIZE, level);
  return found;
}

it("has no line where the field has no such level", () => {
  expect(points(hill, 256)).toEqual([]);
  expect(
    points(
      field(() => 7),
      7,
    ),
  ).toEqual([]);
  expect(
    points(
      field(() => Number.NaN),
      7,
    ),
  ).toEqual([]);
});

it("runs where the field has the level", () => {
  const line = points(hill, 245);
  expect(line.length).toBeGreaterThan(100);
  expect(line.length % 2).toBe(0);
  for (const [x, y] of line) expect(Math.hypot(x - middle, y - middle)).toBeCloseTo(10, 0);
});

it("crosses a slope once, in a straight line", () => {
  const line = points(
    field((x) => x),
    20.25,
  );
  expect(line).toHaveLength(2 * (SIZE - 1));
  for (const [x] of line) expect(x).toBeCloseTo(20.25, 4);
});
