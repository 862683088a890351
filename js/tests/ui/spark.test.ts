import { expect, it } from "vitest";
import { axisOf, bandPath, linePath, SPARK } from "../../src/ui/spark";

const scores = {
  concepts: ["a", "b"],
  cosine: [[0.1, -0.1], undefined, [0.3, null]],
  share: null,
  null_band: [[0.05, 0.2], undefined, [0.05, 0.35]] as [number, number][],
  emergence: [null, null],
  meter: null,
};

it("puts every concept and the null band on one axis; bars start at zero or below", () => {
  expect(axisOf(scores, "cosine", false).range).toEqual([-0.1, 0.35]);
  expect(axisOf({ ...scores, cosine: [[0.2, 0.3]] }, "cosine", true).range).toEqual([0, 0.35]);
  expect(axisOf(scores, "share", false).range).toEqual([0, 1]);
  expect(axisOf(null, "cosine", true).range).toEqual([0, 1]);
});

it("breaks the line where a score is missing", () => {
  const axis = axisOf(scores, "share", true);
  expect(linePath([0.1, 0.2, null, 0.4, 0.5], 5, axis).match(/M/g)).toHaveLength(2);
  expect(linePath([], 5, axis)).toBe("");
});

it("closes the band over the steps that have one", () => {
  const path = bandPath(scores.null_band, 3, axisOf(scores, "cosine", false));
  expect(path.match(/[ML]/g)).toHaveLength(4);
  expect(path.endsWith("Z")).toBe(true);
  expect(path).toContain(`${SPARK.x(2, 3)} `);
});
