// The kernel's replies about the explain methods: maps read from bytes, curves summed and pointed at.

import { expect, it } from "vitest";
import { greatest, scoreOf, stepAt } from "../../../src/drawers/methods/relevanceCurves";
import { labelOf, readMaps } from "../../../src/drawers/methods/saliency";
import { formatSpan } from "../../../src/drawers/Progress";

const reply = (maps: object[], bytes: readonly number[]) => ({
  content: { type: "saliency", maps },
  buffers: [new DataView(Uint8Array.from(bytes).buffer)],
});
const map = { method: "df_cam", step: 2, grid: [1, 2], scale: [0, 0.5] };

it("cuts the maps out of one buffer", () => {
  const maps = readMaps(reply([map, { ...map, method: "df_rise", grid: [2, 1], scale: null }], [0, 255, 3, 4]));
  expect(maps.map(({ method, step, maps: { data, scales } }) => [method, step, [...data], scales])).toEqual([
    ["df_cam", 2, [0, 255], [[0, 0.5]]],
    ["df_rise", 2, [3, 4], [null]],
  ]);
  expect(readMaps(reply([], []))).toEqual([]);
});

it.each([
  [[map], [0]],
  [[map], [0, 1, 2]],
  [[{ ...map, step: -1 }], [0, 1]],
  [[{ ...map, method: 7 }], [0, 1]],
])("refuses bytes and fields that do not fit: %j %j", (maps, bytes) => {
  expect(() => readMaps(reply(maps, bytes))).toThrow();
});

it("names methods, also those that it does not know", () => {
  const methods = [{ name: "df_rise", label: "DF-RISE", caption: "Shows pixels.", finding: "" }];
  expect([labelOf("df_rise", methods), labelOf("mine", methods)]).toEqual(["DF-RISE", "mine"]);
});

it("sums a word's scaled curve, and finds the top of a chart", () => {
  const raw = [
    [0.5, null],
    [2, 3],
  ];
  const curves = {
    own_schedule: "uniform",
    schedule: "early",
    words: [1, 2],
    raw,
    scaled: [
      [0.25, null],
      [1, 0.5],
    ],
  } as const;
  expect([scoreOf(curves, 0), scoreOf(curves, 1)]).toEqual([1.25, 0.5]);
  expect(greatest(raw)).toBe(3);
  expect(greatest([[null]])).toBeGreaterThan(0);
});

it.each([
  [-0.1, 0],
  [0, 0],
  [0.34, 2],
  [0.999, 5],
  [1.2, 5],
])("finds the step at %d of the chart's width", (place, step) => {
  expect(stepAt(place, 6)).toBe(step);
});

it.each([
  [0.2, "1 s"],
  [12.4, "12 s"],
  [89, "89 s"],
  [150, "3 min"],
])("says %d seconds as %s", (seconds, said) => {
  expect(formatSpan(seconds)).toBe(said);
});
