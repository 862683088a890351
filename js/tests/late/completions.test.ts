import { describe, expect, it } from "vitest";
import type { Vocabulary } from "../../src/core/vocabulary";
import { suggestionsAt, withSuggestion } from "../../src/late/completions";

const SCENES: Vocabulary = {
  shapes: ["circle", "square", "star", "fish", "boat", "house", "tree"],
  settings: ["at night", "on grass"],
  others: ["a", "an", "in", "the"],
};

describe("suggestions", () => {
  const groups = (text: string, caret = text.length) => suggestionsAt(text, caret, SCENES);

  it("complete the word before the caret", () => {
    expect(groups("a s")).toEqual({ partial: "s", groups: [["shapes", ["square", "star"]]] });
    expect(groups("a star ni")).toEqual({ partial: "ni", groups: [["settings", ["at night"]]] });
  });

  it("are all the words where nothing is being typed, or nothing fits", () => {
    for (const text of ["", "a ", "a circle", "a xyz"])
      expect(groups(text)).toEqual({
        partial: "",
        groups: [
          ["shapes", SCENES.shapes],
          ["settings", SCENES.settings],
        ],
      });
  });

  it("replace what was typed, and make room on both sides", () => {
    const accept = (text: string, partial: string, phrase: string, caret = text.length) =>
      withSuggestion(text, caret, partial, phrase);
    expect(accept("a s", "s", "star")).toEqual({ text: "a star ", caret: 7 });
    expect(accept("a star at nig", "nig", "at night")).toEqual({ text: "a star at night ", caret: 16 });
    expect(accept("a star", "", "on grass")).toEqual({ text: "a star on grass ", caret: 16 });
    expect(accept("a s on grass", "s", "star", 3)).toEqual({ text: "a star on grass", caret: 7 });
  });
});
