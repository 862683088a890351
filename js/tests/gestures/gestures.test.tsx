// @vitest-environment happy-dom
// Gestures of the views that every notebook carries: they work without the drawers' script.

import "../setup";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { mount } from "../../src/app/mount";
import { PROMPT, runContent, scoresContent, stepBuffers, stepContent, TestHost } from "../host";

let host: TestHost;
let cell: HTMLElement;

const settled = () => new Promise((resolve) => setTimeout(resolve, 5));
const find = (selector: string) => cell.querySelector<HTMLElement>(selector) as HTMLElement;
const pointer = (element: Element, type: string, init: PointerEventInit = {}) =>
  element.dispatchEvent(new PointerEvent(type, { bubbles: true, cancelable: true, button: 0, pointerId: 1, ...init }));
const press = (element: Element, key: string) =>
  element.dispatchEvent(new KeyboardEvent("keydown", { key, altKey: true, bubbles: true, cancelable: true }));

beforeEach(async () => {
  Object.assign(Element.prototype, { setPointerCapture: vi.fn() });
  host = new TestHost({ prompt: PROMPT, status: "done", _can_run: true, steps: 4, concepts: ["red", "boat"] });
  cell = document.createElement("div");
  document.body.append(cell);
  mount(host, cell);
  host.deliver(runContent());
  host.deliver(stepContent(0), stepBuffers());
  host.deliver(stepContent(1), stepBuffers());
  host.deliver(
    scoresContent(0, [
      [0.3, 0.1],
      [0.4, 0.1],
    ]),
  );
  await settled();
});

afterEach(() => {
  host.controller.abort();
  cell.remove();
});

it("reorders the meters by dragging a name and by keys", () => {
  const rows = () => [...cell.querySelectorAll<HTMLElement>(".dv-meters .dv-meter")];
  rows().forEach((row, i) => {
    row.getBoundingClientRect = () => ({ bottom: 28 * (i + 1) }) as DOMRect;
  });
  pointer(find(".dv-meter-name"), "pointerdown", { clientY: 10 });
  pointer(find(".dv-meters ul"), "pointermove", { clientY: 40 });
  expect(host.traits.concepts).toEqual(["boat", "red"]);
  pointer(find(".dv-meters ul"), "pointerup", { clientY: 40 });
  pointer(find(".dv-meters ul"), "pointermove", { clientY: 10 });
  expect(host.traits.concepts).toEqual(["boat", "red"]);
  press(find('[data-testid="meter-red"] button'), "ArrowUp");
  expect(host.traits.concepts).toEqual(["red", "boat"]);
});

it("shows what is under the pointer, and goes to the step of a curve that is clicked", async () => {
  const note = () => find(".dv-note").textContent;
  const curve = find('[data-testid="meter-red"] .dv-spark');
  curve.getBoundingClientRect = () => ({ left: 0, width: 100 }) as DOMRect;
  pointer(curve, "pointermove", { clientX: 30 });
  await settled();
  expect(note()).toBe("red at step 2: 0.40");
  pointer(curve, "pointerleave");
  await settled();
  expect(note()).not.toContain("red at step");
  curve.dispatchEvent(new MouseEvent("click", { clientX: 10, bubbles: true }));
  await settled();
  expect(find('[data-testid="slider"]').getAttribute("aria-valuenow")).toBe("1");
  const slider = find('[data-testid="slider"]');
  slider.getBoundingClientRect = () => ({ left: 0, width: 100 }) as DOMRect;
  Object.assign(slider, { hasPointerCapture: () => false });
  pointer(slider, "pointermove", { clientX: 30 });
  await settled();
  expect(note()).toContain("step 2 · t = 749");
  pointer(slider, "pointermove", { clientX: 90 });
  await settled();
  expect(note()).toBe("step 4 has not been computed yet");
});
