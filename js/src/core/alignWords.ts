// Words for the eye: a prompt's before the tokenizer has had its say, and a run's in the order of their encoders.

import type { Word } from "./protocol";

export interface Entry {
  readonly word: Word;
  /** Its place among the words of the run. */
  readonly index: number;
  /** The encoder that reads it and those after it, where another one begins here. */
  readonly begins: string;
}

/** The words that `wanted` names, encoder by encoder. */
export function byEncoder(words: readonly Word[], wanted: (word: Word) => boolean): Entry[] {
  const encoders = [...new Set(words.map((word) => word.encoder))];
  let last = "";
  return encoders.flatMap((encoder) =>
    words.flatMap((word, index) => {
      if (word.encoder !== encoder || !wanted(word)) return [];
      const begins = encoder === last ? "" : encoder;
      last = encoder;
      return [{ word, index, begins }];
    }),
  );
}

/** Pairs of places in two lists of texts that stay, in order: a longest common subsequence. Case does not matter. */
export function align(a: readonly string[], b: readonly string[]): [a: number, b: number][] {
  const [one, two] = [a, b].map((list) => list.map((text) => text.toLowerCase())) as [string[], string[]];
  const wide = two.length + 1;
  const length = new Uint16Array((one.length + 1) * wide);
  for (let i = one.length - 1; i >= 0; i--) {
    for (let j = two.length - 1; j >= 0; j--) {
      const at = i * wide + j;
      const [down, right] = [length[at + wide] as number, length[at + 1] as number];
      length[at] = one[i] === two[j] ? (length[at + wide + 1] as number) + 1 : Math.max(down, right);
    }
  }
  const pairs: [number, number][] = [];
  for (let i = 0, j = 0; i < one.length && j < two.length; ) {
    const at = i * wide + j;
    if (one[i] === two[j]) pairs.push([i++, j++]);
    else if ((length[at + wide] as number) >= (length[at + 1] as number)) i++;
    else j++;
  }
  return pairs;
}

/** Words and marks apart, as CLIP splits them. */
export function split(prompt: string): string[] {
  return prompt.match(/'(?:s|t|re|ve|m|ll|d)\b|\p{L}[\p{L}\p{M}]*|\p{N}|[^\s\p{L}\p{N}]+/giu) ?? [];
}
