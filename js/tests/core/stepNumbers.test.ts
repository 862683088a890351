import { expect, it } from "vitest";
import { stepIndex, stepNumber } from "../../src/core/stepNumbers";

it("counts steps from 1 and indices from 0", () => {
  expect([0, 29].map(stepNumber)).toEqual([1, 30]);
  expect([1, 30].map(stepIndex)).toEqual([0, 29]);
});
