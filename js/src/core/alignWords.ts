// Lists of words: a prompt split as CLIP splits it, two prompts aligned, and a run's words grouped by text encoder.

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

/** The words and punctuation marks of a prompt, as CLIP's tokenizer separates them. */
export function splitPrompt(prompt: string): string[] {
  return prompt.match(/'(?:s|t|re|ve|m|ll|d)\b|\p{L}[\p{L}\p{M}]*|\p{N}|[^\s\p{L}\p{N}]+/giu) ?? [];
}
