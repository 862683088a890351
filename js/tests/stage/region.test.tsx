// @vitest-environment happy-dom
// Regions: a part of the image, and the words ranked by attention inside it.

import "../setup";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { mount } from "../../src/app/mount";
import { meanIn } from "../../src/core/mapSampling";
import type { Maps } from "../../src/core/protocol";
import { moveRegion, regionBetween } from "../../src/stage/region";
import { runContent, stepContent, TestHost, WORDS } from "../host";

let host: TestHost;
let cell: HTMLElement;

const settled = () => new Promise((resolve) => setTimeout(resolve, 5));
const query = (selector: string) => cell.querySelector(selector) as HTMLElement;
const names = () => [...cell.querySelectorAll(".dv-maps .dv-meter-name")].map((name) => name.textContent);
const numbers = () => [...cell.querySelectorAll(".dv-maps .dv-score")].map((name) => name.textContent);
const frame = () => query(".dv-frame");

/** Three words, each with one hot cell, on a grid of 2 x 2; at the second step red has moved to the last cell. */
function step(index: number): void {
  const hot = [1, index === 0 ? 0 : 3, 2];
  const data = Uint8Array.from({ length: 12 }, (_, i) => (i % 4 === hot[Math.floor(i / 4)] ? 255 : 0));
  const maps = {
    shape: [3, 2, 2],
    scales: [
      [0, 0.1],
      [0, 0.8],
      [0, 0.4],
    ],
  };
  host.deliver(stepContent(index, index + 1, "r1", { maps }), [new Uint8Array([0x52]), data]);
}

function point(type: string, u: number, v: number): void {
  const target = query(".dv-frame canvas");
  target.dispatchEvent(new PointerEvent(type, { clientX: u * 100, clientY: v * 100, bubbles: true, button: 0 }));
}

const press = (key: string, shiftKey = false) =>
  frame().dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey, bubbles: true, cancelable: true }));

beforeEach(async () => {
  host = new TestHost({ prompt: "a red weathervane", status: "done", _can_run: true, steps: 2 });
  cell = document.createElement("div");
  document.body.append(cell);
  mount(host, cell);
  host.deliver(runContent("r1", 0, { prompt: host.traits.prompt, words: WORDS.slice(1, 4), steps: 2, image: [8, 8] }));
  step(0);
  step(1);
  await settled();
  vi.spyOn(frame(), "getBoundingClientRect").mockReturnValue(new DOMRect(0, 0, 100, 100));
  frame().setPointerCapture = () => {};
});

afterEach(() => {
  host.controller.abort();
  cell.remove();
});

it("ranks the words at a point, now and at other steps", async () => {
  point("pointerdown", 0.9, 0.9);
  await settled();
  expect(names()).toEqual(["red", "a", "weathervane"]);
  expect(numbers()).toEqual(["0.80", "0", "0"]);
  query('[data-testid="slider"]').dispatchEvent(new KeyboardEvent("keydown", { key: "Home", bubbles: true }));
  await settled();
  expect(numbers()).toEqual(["0", "0", "0"]);
});

it("takes the mean over what was brushed", async () => {
  point("pointerdown", 0.1, 0.1);
  point("pointermove", 0.4, 0.9);
  frame().dispatchEvent(new PointerEvent("lostpointercapture"));
  point("pointermove", 0.9, 0.9);
  await settled();
  expect(names()).toEqual(["weathervane", "a", "red"]);
  expect(numbers()).toEqual(["0.20", "0", "0"]);
});

it("keeps a word that is clicked, and lets the place go with Escape", async () => {
  point("pointerdown", 0.9, 0.9);
  await settled();
  query('[data-testid="region-word-1"]').click();
  await settled();
  expect(query('[data-testid="chip-1"]').getAttribute("aria-pressed")).toBe("true");
  press("Escape");
  await settled();
  expect(names()).toEqual([]);
  expect(query('[data-testid="map-1"]')).not.toBeNull();
});

it("works by keys: Enter, arrows, Shift and arrows, without moving the steps", async () => {
  press("Enter");
  await settled();
  expect(numbers()[0]).toBe("0.80");
  press("ArrowUp");
  await settled();
  expect(names()[0]).toBe("a");
  press("ArrowDown");
  press("ArrowLeft", true);
  await settled();
  expect(names()).toEqual(["red", "weathervane", "a"]);
  expect(numbers()).toEqual(["0.40", "0.20", "0"]);
  expect(query('[data-testid="slider"]').getAttribute("aria-valuenow")).toBe("2");
});

it("stays inside the image", () => {
  let region = regionBetween({ u: 0.9, v: 0.1 }, { u: 0.9, v: 0.1 });
  for (let i = 0; i < 5; i++)
    region = moveRegion(region, new KeyboardEvent("keydown", { key: "ArrowRight" }), [4, 4]) ?? region;
  expect(region).toEqual({ u0: 1, v0: 0.1, u1: 1, v1: 0.1 });
  const maps: Maps = { width: 4, height: 4, scales: [[0, 1]], data: Uint8Array.from({ length: 16 }, (_, i) => i * 17) };
  expect(meanIn(maps, 0, region)).toBeCloseTo(3 / 15);
  expect(meanIn(maps, 0, { u0: 0, v0: 0, u1: 1, v1: 1 })).toBeCloseTo(0.5);
  expect(moveRegion(null, new KeyboardEvent("keydown", { key: "ArrowRight" }), [4, 4])).toBeNull();
});

it("draws a chosen word in the colour of all, several in their own", async () => {
  const colour = (index: number) =>
    query(`[data-testid="region-word-${index}"]`).closest("li")?.style.getPropertyValue("--data");
  point("pointerdown", 0.9, 0.9);
  await settled();
  query('[data-testid="region-word-1"]').click();
  await settled();
  // "var(--data)" would refer to itself, and give no colour.
  expect(colour(1)).toBe("");
  query('[data-testid="region-word-0"]').dispatchEvent(new MouseEvent("click", { shiftKey: true, bubbles: true }));
  await settled();
  expect(new Set([colour(0), colour(1), colour(2)]).size).toBe(3);
  expect(colour(2)).toBe("");
});
