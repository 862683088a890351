import { expect, it } from "vitest";
import { ends, score, seconds, value } from "../../src/core/format";

it.each([
  [0, "0"],
  [0.1234, "0.12"],
  [0.0834, "0.083"],
  [0.00071, "7e−4"],
  [-0.25, "−0.25"],
  [3.212, "3.21"],
  [14.61, "14.6"],
  [999.4, "999"],
  [999999999999, "1.0e12"],
  [Number.POSITIVE_INFINITY, "∞"],
])("value(%d) reads %s", (n, text) => expect(value(n)).toBe(text));

it.each([
  [
    [0.00004, 0.141],
    ["0", "0.14"],
  ],
  [
    [0.1231, 0.1249],
    ["0.123", "0.125"],
  ],
  [
    [0.93, 1.0212],
    ["0.93", "1.02"],
  ],
  [
    [0.0012, 0.0092],
    ["0.0012", "0.0092"],
  ],
  [
    [0.00002, 0.00013],
    ["2e−5", "13e−5"],
  ],
  [
    [0, 8.25],
    ["0", "8.25"],
  ],
  [
    [-0.5, 0.25],
    ["−0.50", "0.25"],
  ],
  [
    [12, 180],
    ["12", "180"],
  ],
  [
    [0, 0],
    ["0", "0"],
  ],
  [
    [0.25, 0.25],
    ["0.25", "0.25"],
  ],
] as const)("the ends of a colour bar from %s have one notation", (range, texts) => expect(ends(range)).toEqual(texts));

it("says seconds as people do", () => {
  expect([0.04, 9.94, 12.4, 61].map(seconds)).toEqual(["0.0 s", "9.9 s", "12 s", "1 min 1 s"]);
});

it("shows a missing score as missing", () =>
  expect([0.256, -0.04, null, undefined].map(score)).toEqual(["0.26", "−0.04", "–", "–"]));
