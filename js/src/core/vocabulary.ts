// The words that a model was trained on, where they are known: what to say about others.

/** Words and phrases by group; "others" are known words that are not suggested. Empty where nothing is known. */
export type Vocabulary = Readonly<Record<string, readonly string[]>>;

/** How many known words are named where an unknown one was typed. */
const NAMED = 6;

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
