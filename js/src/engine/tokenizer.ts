// The byte-level BPE of CLIP, as the fast tokenizer of the scenes model: normalised, split, merged, cut and padded.

export interface Token {
  readonly id: number;
  readonly text: string;
  /** The characters (code points) of the prompt that it covers; empty for a special token. */
  readonly start: number;
  readonly end: number;
  readonly isPadding: boolean;
}

const LENGTH = 32;
const START = "<|startoftext|>";
const END = "<|endoftext|>";
const SPACE = /[\t\n\v\f\r\x85\p{Z}]/u;
const PIECES =
  /<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\t\n\v\f\r\x85\p{Z}\p{L}\p{N}]+/gu;
const SMALLER_PIECES = /'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}+|[^\t\n\v\f\r\x85\p{Z}\p{L}\p{N}]+/gu;

/** A character after normalisation, and the characters of the prompt that it stands for. */
interface Character {
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

/** The printable stand-ins for the 256 bytes, by byte. */
function byteSymbols(): { readonly ofByte: readonly string[]; readonly ordered: readonly string[] } {
  const printable = Array.from({ length: 256 }, (_, byte) => byte).filter(
    (byte) => (byte >= 33 && byte < 127) || (byte >= 161 && byte !== 173),
  );
  const ofByte: string[] = [];
  for (const byte of printable) ofByte[byte] = String.fromCharCode(byte);
  const ordered = printable.map((byte) => String.fromCharCode(byte));
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    if (ofByte[byte] !== undefined) continue;
    ofByte[byte] = String.fromCharCode(next++);
    ordered.push(ofByte[byte] as string);
  }
  return { ofByte, ordered };
}

export class Tokenizer {
  readonly #ranks = new Map<string, number>();
  readonly #ids = new Map<string, number>();
  readonly #symbols: readonly string[];

  /** `merges`: pairs of symbols, "i n", in the order of their frequency. */
  constructor(merges: readonly string[]) {
    const { ofByte, ordered } = byteSymbols();
    this.#symbols = ofByte;
    const vocabulary = [...ordered, ...ordered.map((symbol) => `${symbol}</w>`)];
    merges.forEach((merge, rank) => {
      this.#ranks.set(merge, rank);
      vocabulary.push(merge.replace(" ", ""));
    });
    [...vocabulary, START, END].forEach((symbol, id) => {
      this.#ids.set(symbol, id);
    });
  }

  /** The 32 tokens of a prompt: start, what fits of the prompt, end, padding. */
  encode(prompt: string): Token[] {
    const inner = this.#encodeAll(prompt).slice(0, LENGTH - 2);
    const special = (text: string, isPadding: boolean): Token => ({
      id: this.#ids.get(text) as number,
      text,
      start: 0,
      end: 0,
      isPadding,
    });
    const tokens = [special(START, false), ...inner, special(END, false)];
    while (tokens.length < LENGTH) tokens.push(special(END, true));
    return tokens;
  }

  #encodeAll(prompt: string): Token[] {
    const tokens: Token[] = [];
    // The names of the special tokens are tokens before anything else happens to the text.
    let offset = 0;
    for (const part of prompt.split(/(<\|startoftext\|>|<\|endoftext\|>)/)) {
      const length = Array.from(part).length;
      if (part === START || part === END) {
        tokens.push({
          id: this.#ids.get(part) as number,
          text: part,
          start: offset,
          end: offset + length,
          isPadding: false,
        });
      } else {
        const characters = normalise(part, offset);
        for (const piece of split(characters)) tokens.push(...this.#merge(piece));
      }
      offset += length;
    }
    return tokens;
  }

  /** The tokens of one piece: its bytes, merged as long as there is a merge. */
  #merge(piece: readonly Character[]): Token[] {
    const encoder = new TextEncoder();
    const parts = piece.flatMap(({ text, start, end }) =>
      Array.from(encoder.encode(text), (byte) => ({ text: this.#symbols[byte] as string, start, end })),
    );
    const last = parts.at(-1);
    if (!last) return [];
    last.text += "</w>";
    for (;;) {
      let best = -1;
      let bestRank = Number.POSITIVE_INFINITY;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = this.#ranks.get(`${parts[i]?.text} ${parts[i + 1]?.text}`);
        if (rank !== undefined && rank < bestRank) [best, bestRank] = [i, rank];
      }
      const [left, right] = [parts[best], parts[best + 1]];
      if (!left || !right) break;
      parts.splice(best, 2, { text: left.text + right.text, start: left.start, end: right.end });
    }
    return parts.map(({ text, start, end }) => ({
      id: this.#ids.get(text) as number,
      text,
      start,
      end,
      isPadding: false,
    }));
  }
}

/** Composed, every run of white space one space, in lower case; with where each character comes from. */
function normalise(text: string, offset: number): Character[] {
  const characters: Character[] = [];
  let index = offset;
  // Characters compose with the marks behind them, and Hangul letters with one another.
  for (const cluster of text.match(/[\u1100-\u11ff]+|[\s\S]\p{M}*/gu) ?? []) {
    const length = Array.from(cluster).length;
    const composed = Array.from(cluster.normalize("NFC"));
    composed.forEach((character, i) => {
      // What was composed stands where its first character does, as in the tokenizers library.
      const start = index + (i === 0 ? 0 : i + length - composed.length);
      const place = { start, end: start + 1 };
      if (SPACE.test(character)) {
        if (characters.at(-1)?.text !== " ") characters.push({ text: " ", ...place });
      } else for (const lower of character.toLowerCase()) characters.push({ text: lower, ...place });
    });
    index += length;
  }
  return characters;
}

function split(characters: readonly Character[]): Character[][] {
  const text = characters.map((character) => character.text).join("");
  /** The character at each UTF-16 unit of `text`. */
  const at: number[] = [];
  characters.forEach((character, i) => {
    for (let unit = 0; unit < character.text.length; unit++) at.push(i);
  });
  const pieces: Character[][] = [];
  for (const outer of text.matchAll(PIECES)) {
    for (const inner of outer[0].matchAll(SMALLER_PIECES)) {
      const start = outer.index + inner.index;
      pieces.push(characters.slice(at[start], (at[start + inner[0].length - 1] as number) + 1));
    }
  }
  return pieces;
}
