// @vitest-environment happy-dom
// Changing a word's weight by hand.

import { beforeEach, expect, it, vi } from "vitest";
import { SOURCE } from "../drawerSource";
import { PROMPT } from "../host";
import { byId, host, open, settled } from "../viewer";

const pointer = (element: Element, type: string, init: PointerEventInit = {}) =>
  element.dispatchEvent(new PointerEvent(type, { bubbles: true, cancelable: true, button: 0, pointerId: 1, ...init }));
const press = (element: Element, key: string) =>
  element.dispatchEvent(new KeyboardEvent("keydown", { key, altKey: true, bubbles: true, cancelable: true }));

beforeEach(async () => {
  Object.assign(Element.prototype, { setPointerCapture: vi.fn() });
  await open({}, 4, SOURCE);
});

it("drags a word's weight: the chip shows it, the run repeats once it is released, the click chooses nothing", async () => {
  const chip = byId("chip-2");
  pointer(chip, "pointerdown", { clientY: 100 });
  pointer(chip, "pointermove", { clientY: 75, buttons: 1 });
  await settled();
  expect(chip.textContent).toContain("×1.5");
  expect(host.of("run")).toEqual([]);
  pointer(chip, "pointerup", { clientY: 75 });
  chip.click();
  expect(host.traits.weights).toEqual({ red: 1.5 });
  expect(host.of("run")).toHaveLength(1);
  await settled();
  expect(chip.getAttribute("aria-pressed")).toBe("false");
});

it("takes a press without a drag for a click", async () => {
  const chip = byId("chip-2");
  pointer(chip, "pointerdown", { clientY: 100 });
  pointer(chip, "pointermove", { clientY: 98, buttons: 1 });
  pointer(chip, "pointerup", { clientY: 98 });
  chip.click();
  await settled();
  expect(chip.getAttribute("aria-pressed")).toBe("true");
  expect(host.of("run")).toEqual([]);
});

it("changes a weight by keys and leaves a word out by an Alt-click", () => {
  const chip = byId("chip-2");
  press(chip, "ArrowUp");
  expect(host.traits.weights).toEqual({ red: 1.1 });
  chip.dispatchEvent(new MouseEvent("click", { altKey: true, bubbles: true }));
  expect(host.traits.weights).toEqual({ red: null });
  press(chip, "Delete");
  expect(host.traits.weights).toEqual({});
  expect(host.of("run")).toHaveLength(3);
});

it("weighs no word of a recorded run", () => {
  host.fromKernel({ _can_run: false });
  press(byId("chip-2"), "ArrowUp");
  expect(host.traits.weights).toBeUndefined();
});

it("ends a drag whose chip went with its run", async () => {
  pointer(byId("chip-2"), "pointerdown", { clientY: 100 });
  pointer(byId("chip-2"), "pointermove", { clientY: 75, buttons: 1 });
  await settled();
  expect(byId("chip-2").textContent).toContain("×1.5");
  host.fromKernel({ prompt: "a red boat" });
  await settled();
  host.fromKernel({ prompt: PROMPT });
  await settled();
  expect(byId("chip-2").textContent).toBe("red");
  pointer(byId("chip-2"), "pointermove", { clientY: 50 });
  await settled();
  expect(byId("chip-2").textContent).toBe("red");
});
