// What is on the stage: chosen words, and a map of no word that leaves the stage to them.

import { expect, it } from "vitest";
import { type Lens, ViewState } from "../../src/core/viewState";

function withLens(words?: readonly number[]): { viewState: ViewState; removed: () => number } {
  const viewState = new ViewState();
  let count = 0;
  const lens: Lens = {
    name: "DF-CAM",
    words,
    apply: (_, step) => step,
    exported: () => ({}),
    remove: () => {
      count++;
      viewState.lens.value = null;
    },
  };
  viewState.lens.value = lens;
  return { viewState, removed: () => count };
}

it("shows a word that is chosen, or chosen already, in place of a method's map", () => {
  const { viewState, removed } = withLens([9]);
  viewState.pinned.value = [2];
  expect(viewState.words.value).toEqual([9]);
  viewState.pin(2, false);
  expect([viewState.words.value, removed()]).toEqual([[2], 1]);
  const added = withLens([9]);
  added.viewState.pinned.value = [2];
  added.viewState.pin(3, true);
  expect(added.viewState.words.value).toEqual([2, 3]);
});

it("keeps a lens that shows the chosen words", () => {
  const { viewState, removed } = withLens();
  viewState.pin(2, false);
  expect([viewState.words.value, removed()]).toEqual([[2], 0]);
});

it("is cleared of a map as of words", () => {
  const { viewState, removed } = withLens([9]);
  viewState.pinned.value = [2];
  viewState.clear();
  expect([viewState.words.value, removed()]).toEqual([[], 1]);
});
