// The words that a model was trained on, where they are known: suggestions for the prompt, and what to say about others.

/** Words and phrases by group; "others" are known words that are not suggested. Empty where nothing is known. */
export type Vocabulary = Readonly<Record<string, readonly string[]>>;

export interface Suggestions {
  /** The part of the text that a suggestion completes; empty where it is inserted. */
  readonly partial: string;
  readonly groups: readonly (readonly [name: string, phrases: readonly string[]])[];
}

const WORDS = /[\p{L}\p{M}\p{N}]+/gu;
/** How many known words are named where an unknown one was typed. */
const NAMED = 6;

function isKnown(word: string, vocabulary: Vocabulary): boolean {
  return Object.values(vocabulary).some((phrases) => phrases.some((phrase) => phrase.split(" ").includes(word)));
}

/** The words of a prompt that the model has never seen, in lower case, each once. */
export function unknownWords(prompt: string, vocabulary: Vocabulary): readonly string[] {
  if (Object.keys(vocabulary).length === 0) return [];
  const words = prompt.toLowerCase().match(WORDS) ?? [];
  return [...new Set(words)].filter((word) => !isKnown(word, vocabulary));
}

/** What the model knows instead of a word: similarly spelt words, else shapes. */
export function knownInstead(word: string, vocabulary: Vocabulary): readonly string[] {
  const suggested = Object.entries(vocabulary).flatMap(([name, phrases]) => (name === "others" ? [] : phrases));
  const similar = suggested.filter((phrase) => distance(word.toLowerCase(), phrase) <= Math.min(2, word.length / 3));
  return similar.length > 0 ? similar : (vocabulary.shapes ?? []);
}

/** A sentence about unknown words, with what there is instead where that is known. */
export function unknownText(words: readonly string[], vocabulary: Vocabulary): string {
  const text = `The model has never seen: ${words.join(", ")}`;
  const instead = [...new Set(words.flatMap((word) => knownInstead(word, vocabulary)))];
  if (instead.length === 0) return text;
  return `${text}. It knows ${instead.slice(0, NAMED).join(", ")}${instead.length > NAMED ? " and more" : ""}`;
}

/** What could come at the caret: completions of the word before it, or all that can be inserted. */
export function suggestionsAt(text: string, caret: number, vocabulary: Vocabulary): Suggestions {
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

/** The number of letters to change, add or remove that makes one text of the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}
