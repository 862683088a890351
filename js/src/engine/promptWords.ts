// The words of a prompt along its tokens, as diffvis_widget/traces/prompt_words.py and tracer/words.py find them.
// Positions count code points, as Python does.

import type { WordKind } from "../core/protocol";
import type { Token } from "./tokenizer";

export interface PromptWord {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly token_texts: readonly string[];
  readonly kind: WordKind;
}

type CharacterKind = "letter without spaces" | "letter" | "flag" | "mark";

const JOINER = "\u200d";
/** The letter behind them is drawn below the one before. */
const STACKERS = "\u1039\u17d2\u1a60";
/** Drawn with the letter before: am of Thai and Lao, voicing marks of half-width kana. */
const ATTACHED_LETTERS = "\u0e33\u0eb3\uff9e\uff9f";
const WITHOUT_SPACES: readonly (readonly [number, number])[] = [
  [0x0e00, 0x0fff], // Thai, Lao, Tibetan
  [0x1000, 0x109f], // Burmese
  [0x1780, 0x17ff], // Khmer
  [0x1950, 0x19df], // Tai Le, New Tai Lue
  [0x1a20, 0x1aaf], // Tai Tham
  [0x1b00, 0x1b7f], // Balinese
  [0x2e80, 0x312f], // Chinese radicals, kana, Bopomofo
  [0x31a0, 0x31ff],
  [0x3400, 0x4dbf], // Chinese characters
  [0x4e00, 0x9fff],
  [0xa980, 0xa9ff], // Javanese
  [0xaa60, 0xaadf], // Burmese, Tai Viet
  [0xf900, 0xfaff],
  [0xff66, 0xff9d], // half-width kana
  [0x16fe0, 0x1b2ff], // Tangut, old kana, Nushu
  [0x20000, 0x3ffff],
];

/** What Python's str.isspace accepts beyond \s. */
const MORE_SPACES = "\x1c\x1d\x1e\x1f\x85";
const isSpace = (character: string) =>
  MORE_SPACES.includes(character) || (/\s/.test(character) && character !== "\ufeff");
const isLetter = (character: string | undefined) => character !== undefined && /\p{L}/u.test(character);

/** (start, end) of each word and punctuation mark of a text, in code points. */
export function splitWords(characters: readonly string[]): [start: number, end: number][] {
  const spans: [number, number][] = [];
  let previous: CharacterKind = "mark";
  characters.forEach((character, index) => {
    if (isSpace(character)) return;
    const kind = kindOf(characters, index);
    const last = spans.at(-1);
    if (last?.[1] === index && continues(characters, index, kind, previous, index - last[0])) last[1] = index + 1;
    else {
      spans.push([index, index + 1]);
      previous = kind;
    }
  });
  return spans;
}

/** A word without what people do not tell apart when they type it: case, composed letters, widths, apostrophes. */
export function foldWord(text: string): string {
  // Upper case first: only it makes ß and ss one. The sigma at the end of a word is the same letter.
  const lower = text.normalize("NFKD").toUpperCase().toLowerCase().replaceAll("ς", "σ");
  return lower.normalize("NFKD").replaceAll("’", "'");
}

function kindOf(characters: readonly string[], index: number): CharacterKind {
  const character = characters[index] as string;
  const code = character.codePointAt(0) as number;
  const isAlphanumeric = /[\p{L}\p{N}]/u.test(character);
  const isDigit = /\p{Nd}/u.test(character);
  if (isAlphanumeric && !isDigit && WITHOUT_SPACES.some(([first, last]) => first <= code && code <= last))
    return "letter without spaces";
  if (isAlphanumeric || character === "_") return "letter";
  if ("'’".includes(character) && isLetter(characters[index - 1]) && isLetter(characters[index + 1])) return "letter";
  return code >= 0x1f1e6 && code <= 0x1f1ff ? "flag" : "mark";
}

function continues(
  characters: readonly string[],
  index: number,
  kind: CharacterKind,
  previous: CharacterKind,
  length: number,
): boolean {
  const character = characters[index] as string;
  const before = characters[index - 1] as string;
  if (/\p{M}|\p{Cf}|\p{Emoji_Modifier}/u.test(character)) return true;
  if (ATTACHED_LETTERS.includes(character) || before === JOINER || STACKERS.includes(before)) return true;
  // Two regional letters make one flag.
  if (kind === "flag") return previous === "flag" && length === 1;
  return kind === "letter" && previous === "letter";
}

interface Group {
  readonly start: number;
  end: number;
  readonly tokens: number[];
}

/** The words of a prompt in order of position, padding last. */
export function findWords(prompt: string, tokens: readonly Token[]): PromptWord[] {
  const characters = Array.from(prompt);
  const groups: Group[] = splitWords(characters).map(([start, end]) => ({ start, end, tokens: [] }));
  const others: (readonly [number, PromptWord])[] = [];
  const padding: number[] = [];
  tokens.forEach((token, position) => {
    if (token.isPadding) padding.push(position);
    else if (token.start === token.end || groups.length === 0)
      others.push([position, { text: token.text, tokens: [position], token_texts: [], kind: "special" }]);
    else assign(groups, position, token);
  });
  let latest = -1;
  const words = groups.map(({ start, end, tokens: positions }): readonly [number, PromptWord] => {
    latest = positions[0] ?? latest;
    const token_texts = positions.map((position) =>
      characters.slice(tokens[position]?.start, tokens[position]?.end).join(""),
    );
    const kind = positions.length > 0 ? "word" : "truncated";
    return [latest, { text: characters.slice(start, end).join(""), tokens: positions, token_texts, kind }];
  });
  const ordered = [...words, ...others].sort(([a], [b]) => a - b).map(([, word]) => word);
  if (padding.length > 0) ordered.push({ text: "padding", tokens: padding, token_texts: [], kind: "padding" });
  return ordered;
}

/** Gives a token to the word that it overlaps; words that it spans are merged. */
function assign(groups: Group[], position: number, { start, end }: Token): void {
  let overlapped = groups.filter((group) => group.start < end && start < group.end);
  if (overlapped.length === 0) {
    const following = groups.find((group) => group.start >= end) ?? groups.at(-1);
    overlapped = following ? [following] : [];
  }
  const [first, ...rest] = overlapped;
  if (!first) return;
  first.tokens.push(position);
  for (const other of rest) {
    first.end = other.end;
    first.tokens.push(...other.tokens);
    groups.splice(groups.indexOf(other), 1);
  }
}
