import { describe, expect, it } from "vitest";
import {
  knownInstead,
  suggestionsAt,
  unknownText,
  unknownWords,
  type Vocabulary,
  withSuggestion,
} from "../../src/core/vocabulary";

const SCENES: Vocabulary = {
  shapes: ["circle", "square", "star", "fish", "boat", "house", "tree"],
  settings: ["at night", "on grass"],
  others: ["a", "an", "in", "the"],
};

describe("words that the model has never seen", () => {
  it("are named once, in any case, with what there is instead", () => {
    expect(unknownWords("An Elephant at night and the elephant", SCENES)).toEqual(["elephant", "and"]);
    expect(unknownText(["elephant"], SCENES)).toBe(
      "The model has never seen: elephant. It knows circle, square, star, fish, boat, house and more",
    );
  });

  it("that are misspelt are followed by the word that was meant", () => {
    expect(knownInstead("sqare", SCENES)).toEqual(["square"]);
    expect(unknownText(["sqare"], SCENES)).toBe("The model has never seen: sqare. It knows square");
  });

  it("are not guessed for a model whose words are not known", () => {
    expect(unknownWords("an elephant", {})).toEqual([]);
    expect(unknownText(["elephant"], {})).toBe("The model has never seen: elephant");
  });
});

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
