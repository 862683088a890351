// What is said of two runs that differ in their settings.

import { expect, it } from "vitest";
import { differenceOf, type Entry, nameBeside } from "../../src/drawers/runHistory";

const ENTRY: Entry = {
  ...{ run: "r1", prompt: "a red circle", seed: 7, steps: 30, guidance_scale: 7.5, schedule: "uniform" },
  ...{ schedule_strength: 60, weights: {}, state: "done", finished: 30, notes: 0, has_image: false, image: null },
};

it.each([
  [{}, ""],
  [{ weights: { circle: 1.8 } }, "circle ×1 → ×1.8"],
  [{ weights: { circle: null }, seed: 9 }, "circle ×1 → left out · seed 7 → 9"],
  [{ steps: 12, guidance_scale: null }, "steps 30 → 12 · guidance 7.5 → none"],
  [{ schedule: "early", seed: null }, "seed 7 → unknown · schedule uniform → early 60"],
])("%j", (over, text) => {
  expect(differenceOf(ENTRY, { ...ENTRY, ...over })).toBe(text);
});

it.each([
  [{}, "a red circle · seed 7"],
  [{ prompt: "a boat", seed: 9, steps: 12 }, "a boat · seed 9 · 12 steps"],
  [
    { weights: { circle: null }, state: "stopped", finished: 3 },
    "a red circle · seed 7 · 3 of 30 steps · without circle",
  ],
])("%j beside the other run", (over, text) => {
  expect(nameBeside({ ...ENTRY, ...over }, ENTRY)).toBe(text);
  expect(nameBeside(ENTRY, undefined)).toBe("a red circle · seed 7 · 30 steps · guidance 7.5");
});
