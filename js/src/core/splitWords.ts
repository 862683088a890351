// Splits a prompt into words as a reader sees them, in every script: as diffvis_widget/traces/prompt_words.py does.

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

/** The words and punctuation marks of a prompt. */
export function splitPrompt(prompt: string): string[] {
  const characters = Array.from(prompt);
  return splitWords(characters).map(([start, end]) => characters.slice(start, end).join(""));
}
