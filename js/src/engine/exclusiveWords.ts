// Words that exclude each other compete in the refined maps of words outside the prompt, and settings in those of the
// prompt too, as in diffvis_widget/tracer/exclusive_words.py.

import type { PromptWord } from "./promptWords";

interface ExclusiveWords {
  readonly words: readonly string[];
  /** Further words that they exclude, but that do not compete with them in turn. */
  readonly others: readonly string[];
  readonly power: number;
  /** What the share weights: the attention before it is refined, the refined map, or nothing: the share is refined. */
  readonly weighted: "attention" | "refined" | "nothing";
  /** Whether they compete in the last default layer, and not in the mean of all default layers. */
  readonly isLast?: true;
  /** Whether those of the prompt compete with its other words too. */
  readonly inPrompt?: true;
}

/** The words of one group, by their index among all words. */
export interface Rivals {
  readonly group: ExclusiveWords;
  /** Those that belong to it: outside the prompt, or in it. */
  readonly members: readonly number[];
  /** All that compete. */
  readonly all: readonly number[];
}

/** How a word competes with those that it excludes. */
export interface Competition {
  /** What is refined, in place of the attention. */
  readonly values?: Float32Array;
  /** What the refined map is multiplied by: the share of the word, to a power. */
  readonly weight?: { readonly share: Float32Array; readonly power: number };
}

const OBJECTS = "circle square triangle star heart ring sun moon tree house boat fish flower balloon".split(" ");
const GROUPS: readonly ExclusiveWords[] = [
  {
    words: "red orange yellow green blue purple violet pink brown black white grey gray".split(" "),
    others: [],
    power: 8,
    weighted: "refined",
    isLast: true,
  },
  { words: OBJECTS, others: [], power: 4, weighted: "attention" },
  {
    words: "day night sea grass sand snow sunset".split(" "),
    others: OBJECTS,
    power: 1,
    weighted: "nothing",
    inPrompt: true,
  },
];
/** Keeps the division possible for words without any attention. */
const LEAST = 1e-30;

/** Which of the words compete: those outside the prompt with all, those of the prompt among themselves. */
export function findRivals(words: readonly PromptWord[]): Rivals[] {
  const indices = (chosen: readonly string[], kinds: readonly string[]): number[] =>
    words.flatMap(({ text, kind }, i) => (kinds.includes(kind) && chosen.includes(text.toLowerCase()) ? [i] : []));
  return GROUPS.flatMap((group) =>
    [["concept", "word"], ...(group.inPrompt ? [["word"]] : [])].map((kinds) => ({
      group,
      members: indices(group.words, kinds.slice(0, 1)),
      all: indices([...group.words, ...group.others], kinds),
    })),
  ).filter(({ members, all }) => members.length > 0 && all.length > 1);
}

/** The words whose share is refined in place of their attention, in their order. */
export function wordsByShare(words: readonly PromptWord[]): string[] {
  const shares = findRivals(words).filter(({ group }) => group.weighted === "nothing");
  const members = new Set(shares.flatMap((part) => part.members));
  return [...new Set(words.flatMap(({ text }, index) => (members.has(index) ? [text] : [])))];
}

/** How words compete. `mean` and `last`: maps (words, positions) of all default layers, and of the last. */
export function compete(
  rivals: readonly Rivals[],
  mean: Float32Array,
  last: Float32Array,
  positions: number,
): Map<number, Competition> {
  return new Map(
    rivals.flatMap(({ group, members, all }) => {
      const { power, weighted } = group;
      const maps = group.isLast ? last : mean;
      const value = (word: number, position: number) => maps[word * positions + position] as number;
      return members.map((word): [number, Competition] => {
        const share = Float32Array.from({ length: positions }, (_, position) => {
          const total = all.reduce((sum, other) => sum + value(other, position), 0);
          return value(word, position) / Math.max(total, LEAST);
        });
        if (weighted === "refined") return [word, { weight: { share, power } }];
        const values = share.map((part, i) => part ** power * (weighted === "nothing" ? 1 : value(word, i)));
        return [word, { values }];
      });
    }),
  );
}
