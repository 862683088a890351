import { describe, expect, it } from "vitest";
import { knownInstead, unknownText, type Vocabulary } from "../../src/core/vocabulary";
import { unknownWords } from "../../src/late/completions";

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
