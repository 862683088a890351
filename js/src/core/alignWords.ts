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

const RIGHT_TO_LEFT = /^\P{L}*[\p{sc=Hebr}\p{sc=Arab}\p{sc=Syrc}\p{sc=Thaa}\p{sc=Nkoo}\p{sc=Adlm}]/u;

/** The direction of a text: that of its first letter, as with dir="auto", which would read headings and special tokens. */
export function directionOf(text: string): "ltr" | "rtl" {
  return RIGHT_TO_LEFT.test(text) ? "rtl" : "ltr";
}

const graphemes = Intl.Segmenter && new Intl.Segmenter(undefined, { granularity: "grapheme" }); // older browsers: none
const LETTER = /^[\p{L}\p{N}_]/u;
/** Scripts without spaces between words: every letter is a word, as in the kernel. */
const UNSPACED =
  /^(?=\p{L})[\p{sc=Thai}\p{sc=Laoo}\p{sc=Tibt}\p{sc=Mymr}\p{sc=Khmr}\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Bopo}]/u;
/** The letter behind these is drawn below the one before: Burmese, Khmer. */
const STACKER = /[\u1039\u17d2]$/u;
const MARK = /^\p{M}/u; // some vowels of Burmese are no part of a grapheme cluster
const APOSTROPHE = /^['’]/u;
const SPACE = /^\s/u;

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

/** The words and punctuation marks of a prompt as the kernel splits them, before it has; never a part of a character. */
export function splitPrompt(prompt: string): string[] {
  const parts = graphemes ? Array.from(graphemes.segment(prompt), ({ segment }) => segment) : Array.from(prompt);
  const isLetter = (part: string) => LETTER.test(part) && !UNSPACED.test(part);
  const words: string[] = [];
  let open = false; // whether the last word is one of letters, which more may follow
  for (const [i, part] of parts.entries()) {
    const [before = "", after = ""] = [parts[i - 1], parts[i + 1]];
    const continues = isLetter(part) || (APOSTROPHE.test(part) && LETTER.test(before) && LETTER.test(after));
    const isDrawnWithLast = MARK.test(part) || STACKER.test(before);
    if ((open && continues) || (isDrawnWithLast && words.length > 0 && !SPACE.test(before)))
      words[words.length - 1] += part;
    else if (!SPACE.test(part)) words.push(part);
    open = continues || (open && isDrawnWithLast);
  }
  return words;
}
