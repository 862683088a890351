// @vitest-environment happy-dom
// Terms are explained on hover, on focus and on touch.

import { expect, it } from "vitest";
import { placeBeside } from "../../src/ui/placed";
import { cell, open, press, query, settled } from "../viewer";

const shown = () => (query(".dv-tip").hidden ? "" : query(".dv-tip").textContent);
const point = async (element: Element, name: string, pointerType = "mouse") => {
  element.dispatchEvent(new PointerEvent(name, { bubbles: true, pointerType }));
  await settled();
};

it("explains a term under the pointer, and nothing elsewhere", async () => {
  await open();
  await point(query(".dv-step"), "pointerover");
  expect(shown()).toMatch(/^t is the timestep: .* σ \(sigma\) is the noise level/);
  await point(query("[aria-label=steps]"), "pointerover");
  expect(shown()).toMatch(/^Each step removes a part of the noise/);
  await point(query("[data-testid=slider]"), "pointerover");
  expect(shown()).toBe("");
});

it("explains what a finger taps until it taps elsewhere", async () => {
  await open();
  const field = query("[aria-label=seed]");
  await point(field, "pointerdown", "touch");
  await point(field, "pointerover", "touch");
  expect(shown()).toMatch(/^The seed numbers/);
  await point(query("[data-testid=slider]"), "pointerdown", "touch");
  expect(shown()).toBe("");
});

it("goes away on Escape", async () => {
  await open();
  const label = query("[aria-label=guidance]");
  await point(label, "pointerover");
  expect(shown()).toMatch(/^Guidance is/);
  press(label, "Escape");
  await settled();
  expect(shown()).toBe("");
});

it("tells screen readers the same sentence", async () => {
  await open();
  for (const element of cell.querySelectorAll(":is(button, input)[data-tip], [data-tip] input"))
    expect(element.getAttribute("aria-description")).toBe(element.closest<HTMLElement>("[data-tip]")?.dataset.tip);
});

it("places a box below its target, above where there is no room, and inside the widget", () => {
  const frame = { left: 10, top: 10, width: 400, height: 300 };
  const size = { width: 100, height: 40 };
  const at = (left: number, top: number) => placeBeside(size, { left, top, width: 20, height: 20 }, frame);
  expect(at(200, 50)).toEqual({ left: 160, top: 78 });
  expect(at(200, 280)).toEqual({ left: 160, top: 232 });
  expect(at(12, 50)).toEqual({ left: 10, top: 78 });
  expect(at(400, 50)).toEqual({ left: 310, top: 78 });
});
