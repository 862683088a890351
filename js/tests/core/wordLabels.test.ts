// The names of words: equal ones are told apart where they stand alone.

import { expect, it } from "vitest";
import type { Word } from "../../src/core/protocol";
import { distinctName } from "../../src/core/wordLabels";

const word = (text: string, encoder = "", kind: Word["kind"] = "word"): Word => ({
  ...{ text, encoder, kind, unknown: false },
  token_texts: [text],
});

it("numbers words that occur several times, each encoder by itself", () => {
  const words = [word("<|endoftext|>", "", "special"), word("a"), word("red"), word("A"), word("a", "T5")];
  expect(words.map((_, index) => distinctName(words, index))).toEqual(["end", "a₁", "red", "A₂", "a (T5)"]);
  expect(distinctName(words, 9)).toBe("");
});
