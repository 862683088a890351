// Words outside the prompt whose maps are wanted, as diffvis_widget/tracer/concept_encoding.py encodes them: each in a
// prompt of its own, "a sky". The graph of the U-Net computes their shares, and nothing else changes.

import { splitWords } from "../core/splitWords";
import { type Networks, type OutsideInput, TOKENS } from "./networks";
import { findWords, type PromptWord } from "./promptWords";
import { occurs } from "./request";
import type { Tokenizer } from "./tokenizer";

const BEFORE = "a ";
const MOST = 64;
const LONGEST = 80;

export class OutsideWords {
  readonly words: readonly PromptWord[];
  readonly #rows: readonly (readonly number[])[];
  /** Of each word, the positions of its tokens in its prompt. */
  readonly #positions: readonly (readonly number[])[];
  #input: OutsideInput | null = null;

  /** Leaves out concepts that the prompt has, and those without a token in their own. */
  constructor(prompt: string, concepts: readonly string[], tokenizer: Tokenizer) {
    const skipped = splitWords(Array.from(BEFORE)).length;
    const encoded = concepts
      .filter((text) => text.length <= LONGEST && !occurs(text, prompt))
      .slice(0, MOST)
      .flatMap((text) => {
        const tokens = tokenizer.encode(BEFORE + text);
        const typed = findWords(BEFORE + text, tokens).filter(({ kind }) => kind === "word" || kind === "truncated");
        const own = typed.slice(skipped).filter((word) => word.tokens.length > 0);
        const row = tokens.map((token) => token.id);
        return own.length > 0 ? [{ text, row, own, positions: own.flatMap((word) => word.tokens) }] : [];
      });
    this.#rows = encoded.map(({ row }) => row);
    this.#positions = encoded.map(({ positions }) => positions);
    // As if their keys stood behind those of the prompt.
    let next = TOKENS;
    this.words = encoded.map(({ text, own, positions }) => ({
      text,
      tokens: positions.map(() => next++),
      token_texts: own.flatMap((word) => word.token_texts),
      kind: "concept",
    }));
  }

  /** What the U-Net takes; null if there is no such word. */
  async input(networks: Networks): Promise<OutsideInput | null> {
    if (this.words.length === 0) return null;
    if (!this.#input) {
      const members = new Float32Array(this.words.length * TOKENS);
      this.#positions.forEach((positions, word) => {
        for (const position of positions) members[word * TOKENS + position] = 1;
      });
      this.#input = { text: await networks.encodeText(this.#rows), members, words: this.words.length };
    }
    return this.#input;
  }
}
