// Words that a model was trained on, as completions of the prompt that is being typed.

import type { Vocabulary } from "../app/coreExports";

export interface Completions {
  /** The part of the text that a suggestion completes; empty where it is inserted. */
  readonly partial: string;
  readonly groups: readonly (readonly [name: string, phrases: readonly string[]])[];
}

const WORDS = /[\p{L}\p{M}\p{N}]+/gu;
function isKnown(word: string, vocabulary: Vocabulary): boolean {
  return Object.values(vocabulary).some((phrases) => phrases.some((phrase) => phrase.split(" ").includes(word)));
}

/** The words of a prompt that the model has never seen, in lower case, each once. */
export function unknownWords(prompt: string, vocabulary: Vocabulary): readonly string[] {
  if (Object.keys(vocabulary).length === 0) return [];
  const words = prompt.toLowerCase().match(WORDS) ?? [];
  return [...new Set(words)].filter((word) => !isKnown(word, vocabulary));
}

/** What could come at the caret: completions of the word before it, or all that can be inserted. */
export function suggestionsAt(text: string, caret: number, vocabulary: Vocabulary): Completions {
  const partial = /[\p{L}\p{M}]+$/u.exec(text.slice(0, caret))?.[0] ?? "";
  const all = Object.entries(vocabulary).filter(([name]) => name !== "others");
  const start = partial.toLowerCase();
  const completions = all.map(
    ([name, phrases]) =>
      [
        name,
        phrases.filter((phrase) => phrase !== start && phrase.split(" ").some((word) => word.startsWith(start))),
      ] as const,
  );
  const matching = start === "" || isKnown(start, vocabulary) ? [] : completions.filter(([, list]) => list.length > 0);
  return matching.length > 0 ? { partial, groups: matching } : { partial: "", groups: all };
}

/** The text with a suggestion at the caret, and the caret behind it. */
export function withSuggestion(
  text: string,
  caret: number,
  partial: string,
  phrase: string,
): { readonly text: string; readonly caret: number } {
  let from = caret - partial.length;
  // "at nig" becomes "at night", not "at at night".
  for (let length = phrase.length - 1; length > partial.length; length--) {
    const before = text.slice(0, caret).toLowerCase();
    if (partial !== "" && before.endsWith(phrase.slice(0, length)) && !/\p{L}$/u.test(before.slice(0, -length))) {
      from = caret - length;
      break;
    }
  }
  const before = text.slice(0, from);
  const after = text.slice(caret);
  const head = `${before}${before === "" || before.endsWith(" ") ? "" : " "}${phrase} `;
  return { text: head + after.trimStart(), caret: head.length };
}
