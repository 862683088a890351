// How words are named and coloured wherever they appear.

import { css, hue } from "./colormap";
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

/** The number under a small heat map: its highest value. */
export function peakOf(scale: Range | null | undefined): string {
  return scale ? `peak ${value(scale[1])}` : NOT_RECORDED;
}

/** The colour of a chosen word: the colour map's own for a single word, one per word for several. */
export function colourOf(pinned: readonly number[], index: number): string | undefined {
  const position = pinned.indexOf(index);
  if (position < 0) return undefined;
  return pinned.length === 1 ? "var(--data)" : css(hue(position));
}
