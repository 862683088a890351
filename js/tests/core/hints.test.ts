// @vitest-environment happy-dom
// Hints that retire for good, or for the life of the page where nothing can be stored.

import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Hints } from "../../src/core/hints";

const KEY = "diffvis_widget.hints";
const forget = () => {
  localStorage.removeItem(KEY);
  delete (document.documentElement.dataset as Record<string, string>)[KEY];
};

beforeEach(forget);
afterEach(() => {
  vi.restoreAllMocks();
  forget();
});

it("are gone for good once they were used", () => {
  const hints = new Hints();
  expect(hints.left).toEqual(["tour", "steps", "region", "edit"]);
  hints.retire("steps");
  hints.retire("steps");
  expect(hints.left).toEqual(["tour", "region", "edit"]);
  expect(new Hints().left).toEqual(["tour", "region", "edit"]);
});

it("keep what another widget on the page has retired", () => {
  const [first, second] = [new Hints(), new Hints()];
  first.retire("tour");
  second.retire("edit");
  expect(new Hints().left).toEqual(["steps", "region"]);
});

it("are gone for the life of the page where nothing can be stored", () => {
  for (const name of ["getItem", "setItem"] as const)
    vi.spyOn(Object.getPrototypeOf(localStorage), name).mockImplementation(() => {
      throw new DOMException("denied", "SecurityError");
    });
  new Hints().retire("region");
  expect(new Hints().left).toEqual(["tour", "steps", "edit"]);
});
