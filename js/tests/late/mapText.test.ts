import { expect, it } from "vitest";
import type { StepMessage } from "../../src/core/protocol";
import { mapText } from "../../src/late/mapText";

function stepWith(cells: number[], side: number): StepMessage {
  const maps = { height: side, width: side, scales: [[0, 0.5], null], data: Uint8Array.from([...cells, ...cells]) };
  return { index: 11, maps } as unknown as StepMessage;
}

it.each([
  [0, "at the top left"],
  [1, "at the top"],
  [3, "on the left"],
  [4, "in the middle"],
  [8, "at the bottom right"],
])("says where the peak of a map is (cell %i)", (cell, place) => {
  const cells = Array.from({ length: 9 }, (_, i) => (i === cell ? 255 : 51));
  expect(mapText(stepWith(cells, 3), 0)).toBe(
    `At step 12 it is attended to most ${place}: 0.50 there, 0.14 on average.`,
  );
});

it("says nothing of a word without a map", () => {
  expect(mapText(stepWith([0, 1, 2, 3], 2), 1)).toBe("");
});
