// Lists of words: two prompts aligned, a run's words grouped by text encoder, words found in their prompt.

import type { Word } from "./protocol";

export interface GroupedWord {
  readonly word: Word;
  /** The index of the word in the run. */
  readonly index: number;
  /** The name of the text encoder where its group begins, else empty. */
  readonly heading: string;
}

/** The words that `include` accepts, grouped by text encoder. */
export function groupByEncoder(words: readonly Word[], include: (word: Word) => boolean): GroupedWord[] {
  const encoders = [...new Set(words.map((word) => word.encoder))];
  let last = "";
  return encoders.flatMap((encoder) =>
    words.flatMap((word, index) => {
      if (word.encoder !== encoder || !include(word)) return [];
      const heading = encoder === last ? "" : encoder;
      last = encoder;
      return [{ word, index, heading }];
    }),
  );
}

/** Pairs of indices of the texts that two lists share in order, ignoring case: a longest common subsequence. */
export function alignWords(a: readonly string[], b: readonly string[]): [a: number, b: number][] {
  const [left, right] = [a, b].map((list) => list.map((text) => text.toLowerCase())) as [string[], string[]];
  const width = right.length + 1;
  const lengths = new Uint16Array((left.length + 1) * width);
  for (let i = left.length - 1; i >= 0; i--) {
    for (let j = right.length - 1; j >= 0; j--) {
      const at = i * width + j;
      lengths[at] =
        left[i] === right[j]
          ? (lengths[at + width + 1] as number) + 1
          : Math.max(lengths[at + width] as number, lengths[at + 1] as number);
    }
  }
  const pairs: [number, number][] = [];
  for (let i = 0, j = 0; i < left.length && j < right.length; ) {
    const at = i * width + j;
    if (left[i] === right[j]) pairs.push([i++, j++]);
    else if ((lengths[at + width] as number) >= (lengths[at + 1] as number)) i++;
    else j++;
  }
  return pairs;
}

const RIGHT_TO_LEFT = /^\P{L}*[\p{sc=Hebr}\p{sc=Arab}\p{sc=Syrc}\p{sc=Thaa}\p{sc=Nkoo}\p{sc=Adlm}]/u;

/** The direction of a text: that of its first letter, as with dir="auto", which would read headings and special tokens. */
export function directionOf(text: string): "ltr" | "rtl" {
  return RIGHT_TO_LEFT.test(text) ? "rtl" : "ltr";
}

/** Where the words of a list stand in the prompt that they come from, or null; they are in its order. */
export function rangesIn(
  prompt: string,
  words: readonly string[],
): readonly (readonly [start: number, end: number] | null)[] {
  const text = prompt.toLowerCase();
  let from = 0;
  return words.map((word) => {
    const start = word === "" ? -1 : text.indexOf(word.toLowerCase(), from);
    if (start < 0) return null;
    from = start + word.length;
    return [start, from];
  });
}
