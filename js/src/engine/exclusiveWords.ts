// Words that exclude each other compete in the refined maps of words outside the prompt, as in
// diffvis_widget/tracer/exclusive_words.py.

import type { PromptWord } from "./promptWords";

interface ExclusiveWords {
  readonly words: readonly string[];
  /** Further words that they exclude, but that do not compete with them in turn. */
  readonly others: readonly string[];
  readonly power: number;
  /** Whether they compete in the last default layer, and not in the mean of all default layers. */
  readonly isLast: boolean;
}

/** The words of one group, by their index among all words. */
export interface Rivals {
  readonly group: ExclusiveWords;
  /** Those outside the prompt that belong to it. */
  readonly members: readonly number[];
  /** All that compete. */
  readonly all: readonly number[];
}

/** The share of a word among those that exclude each other, and the power of that. */
export interface Competition {
  readonly share: Float32Array;
  readonly power: number;
}

const OBJECTS = "circle square triangle star heart ring sun moon tree house boat fish flower balloon".split(" ");
const GROUPS: readonly ExclusiveWords[] = [
  {
    words: "red orange yellow green blue purple violet pink brown black white grey gray".split(" "),
    others: [],
    power: 8,
    isLast: true,
  },
  { words: OBJECTS, others: [], power: 4, isLast: false },
  { words: "day night sea grass sand snow sunset".split(" "), others: OBJECTS, power: 4, isLast: false },
];
/** Keeps the division possible for words without any attention. */
const LEAST = 1e-30;

/** Which of the words compete, those of the prompt and those outside of it. */
export function findRivals(words: readonly PromptWord[]): Rivals[] {
  const indices = (chosen: readonly string[], kinds: readonly string[]): number[] =>
    words.flatMap(({ text, kind }, i) => (kinds.includes(kind) && chosen.includes(text.toLowerCase()) ? [i] : []));
  return GROUPS.map((group) => ({
    group,
    members: indices(group.words, ["concept"]),
    all: indices([...group.words, ...group.others], ["concept", "word"]),
  })).filter(({ members, all }) => members.length > 0 && all.length > 1);
}

/** The shares of the words that compete. `mean` and `last`: maps (words, positions) of all default layers, and of the last. */
export function compete(
  rivals: readonly Rivals[],
  mean: Float32Array,
  last: Float32Array,
  positions: number,
): Map<number, Competition> {
  return new Map(
    rivals.flatMap(({ group, members, all }) => {
      const maps = group.isLast ? last : mean;
      const value = (word: number, position: number) => maps[word * positions + position] as number;
      return members.map((word) => {
        const share = Float32Array.from({ length: positions }, (_, position) => {
          const total = all.reduce((sum, other) => sum + value(other, position), 0);
          return value(word, position) / Math.max(total, LEAST);
        });
        return [word, { share, power: group.power }];
      });
    }),
  );
}
