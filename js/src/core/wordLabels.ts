// How words are named and coloured wherever they appear.

import { css, type Rgb, wordColours } from "./colormap";
import { NOT_RECORDED, value } from "./format";
import type { Range, Word } from "./protocol";

/** The name of a word; special tokens without their markup. */
export function nameOf(word: Word): string {
  const special = /^<\|?(start|end)oftext\|?>$/.exec(word.text)?.[1];
  if (special) return special;
  return word.text === "" ? word.kind : word.text;
}

/** The name where it stands alone: with its text encoder, if the model has several. */
export function fullNameOf(word: Word | undefined): string {
  if (!word) return "";
  return word.encoder ? `${nameOf(word)} (${word.encoder})` : nameOf(word);
}

/** The name, with a number where the prompt has the same word several times: a₁, a₂. */
export function distinctName(words: readonly Word[], index: number): string {
  const word = words[index];
  if (word?.kind !== "word") return fullNameOf(word);
  const key = ({ text, encoder, kind }: Word) => `${kind} ${encoder} ${text.toLowerCase()}`;
  const equal = words.flatMap((other, i) => (key(other) === key(word) ? [i] : []));
  if (equal.length < 2) return fullNameOf(word);
  const number = [...String(equal.indexOf(index) + 1)].map((digit) => "₀₁₂₃₄₅₆₇₈₉"[Number(digit)]).join("");
  return word.encoder ? `${nameOf(word)}${number} (${word.encoder})` : `${nameOf(word)}${number}`;
}

/** The number under a small heat map: its highest value, and its unit, as short as tiles beside each other need it. */
export function peakOf(scale: Range | null | undefined, unit = ""): string {
  return scale ? `peak ${unit ? Number(scale[1].toPrecision(2)) : value(scale[1])}${unit}` : NOT_RECORDED;
}

/** The colour of a chosen word: the colour map's own for a single word, one per word for several. */
export function colourOf(words: readonly Word[], pinned: readonly number[], index: number): string | undefined {
  const position = pinned.indexOf(index);
  if (position < 0) return undefined;
  return pinned.length === 1 ? "var(--data)" : css(coloursOfWords(words, pinned)[position] as Rgb);
}

/** The colours of several words of a run, which are shown together. */
export function coloursOfWords(words: readonly Word[], shown: readonly number[]): Rgb[] {
  return wordColours(shown.map((index) => words[index]?.text ?? ""));
}
