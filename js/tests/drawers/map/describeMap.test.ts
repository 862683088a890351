// The description of a heat map, against formulas written out for maps of a few cells.

import { expect, it } from "vitest";
import type { StepMessage } from "../../../src/core/protocol";
import type { Run } from "../../../src/core/store";
import { describeMap } from "../../../src/drawers/map/describeMap";

const WORDS = [
  { text: "<start>", kind: "special", encoder: "" },
  { text: "sun", kind: "word", encoder: "" },
  { text: "sea", kind: "word", encoder: "" },
  { text: "gone", kind: "truncated", encoder: "" },
];
const run = { info: { words: WORDS } } as unknown as Run;

/** A step with maps of 2 x 2 cells from 0 to `peak`; null for a word without a map. */
function stepOf(...maps: readonly (readonly [number, ...number[]] | null)[]): StepMessage {
  const data = Uint8Array.from(maps.flatMap((map) => map?.slice(1) ?? [0, 0, 0, 0]));
  const scales = maps.map((map) => map && [0, map[0]]);
  return { index: 0, maps: { height: 2, width: 2, scales, data } } as unknown as StepMessage;
}

const step = stepOf([0.8, 255, 255, 255, 255], [0.4, 255, 51, 51, 0], [0.4, 0, 51, 51, 255], null);

it("computes entropy, contrast and the shares of the attention", () => {
  const described = describeMap(run, step, step, 1);
  // 0.4, 0.08, 0.08, 0: shares of 5/7, 1/7, 1/7
  const entropy = -((5 / 7) * Math.log(5 / 7) + (2 / 7) * Math.log(1 / 7)) / Math.log(4);
  expect(described?.entropy).toBeCloseTo(entropy, 6);
  expect(described?.contrast).toBeCloseTo(0.4 / 0.14, 6);
  expect(described?.wordShare).toBeCloseTo(0.14 / (0.8 + 0.14 + 0.14), 6);
  expect(described?.specialShare).toBeCloseTo(0.8 / (0.8 + 0.14 + 0.14), 6);
});

it("correlates the map with those of the other typed words", () => {
  const [x, y] = [[0.4, 0.08, 0.08, 0].map((cell) => cell - 0.14), [0, 0.08, 0.08, 0.4].map((cell) => cell - 0.14)];
  const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, cell, i) => sum + cell * (b[i] ?? 0), 0);
  const expected = dot(x as number[], y as number[]) / dot(x as number[], x as number[]);
  const others = describeMap(run, step, step, 1)?.others;
  expect(others).toHaveLength(1);
  expect(others?.[0]?.name).toBe("sea");
  expect(others?.[0]?.correlation).toBeCloseTo(expected, 6);
});

it("takes the shares from the recorded probabilities, and the rest from the maps on the stage", () => {
  const refined = stepOf([1, 255, 255, 255, 255], [4, 255, 0, 0, 0], [4, 255, 0, 0, 0], null);
  const described = describeMap(run, refined, step, 1);
  expect(described?.entropy).toBeCloseTo(0, 6);
  expect(described?.contrast).toBeCloseTo(4, 6);
  expect(described?.others[0]?.correlation).toBeCloseTo(1, 6);
  expect(described?.wordShare).toBeCloseTo(0.14 / 1.08, 6);
});

it("has nothing to say of a word without a map, and no entropy of a map of zeros", () => {
  expect(describeMap(run, step, step, 3)).toBeNull();
  const empty = stepOf([1, 255, 255, 255, 255], [0, 0, 0, 0, 0], [1, 0, 0, 0, 255], null);
  expect(describeMap(run, empty, empty, 1)?.entropy).toBeNull();
});
