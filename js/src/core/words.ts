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
  const streams = [...new Set(words.map((word) => word.stream))];
  let last = "";
  return streams.flatMap((stream) =>
    words.flatMap((word, index) => {
      if (word.stream !== stream || !wanted(word)) return [];
      const begins = stream === last ? "" : stream;
      last = stream;
      return [{ word, index, begins }];
    }),
  );
}

/** Words and marks apart, as CLIP splits them. */
export function split(prompt: string): string[] {
  return prompt.match(/'(?:s|t|re|ve|m|ll|d)\b|\p{L}[\p{L}\p{M}]*|\p{N}|[^\s\p{L}\p{N}]+/giu) ?? [];
}
