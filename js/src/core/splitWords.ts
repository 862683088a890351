// Splits a prompt into words as a reader sees them, in every script: as diffvis_widget/traces/prompt_words.py does.

type CharacterKind = "lone letter" | "letter" | "flag" | "mark";

/** Scripts without spaces between words, as ranges of characters: Thai, Lao, Tibetan and Burmese; Khmer; Tai Le and New
 *  Tai Lue; Tai Tham; Balinese; Chinese radicals, kana, Bopomofo; Chinese characters; Javanese; Burmese and Tai Viet;
 *  more Chinese characters; half-width kana; Tangut, old kana, Nushu; still more Chinese characters. */
const WITHOUT_SPACES =
  /[\u0e00-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\u2e80-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua980-\ua9ff\uaa60-\uaadf\uf900-\ufaff\uff66-\uff9d\u{16fe0}-\u{1b2ff}\u{20000}-\u{3ffff}]/u;

/** What Python's str.isspace accepts beyond \s. */
const MORE_SPACES = "\x1c\x1d\x1e\x1f\x85";
const isSpace = (character: string) => MORE_SPACES.includes(character) || /[^\S\ufeff]/.test(character);
const LETTER = /\p{L}/u;
/** Drawn with the character before: marks, and letters such as am of Thai and Lao and voicing marks of half-width kana. */
const ATTACHED = /[\p{M}\p{Cf}\p{Emoji_Modifier}\u0e33\u0eb3\uff9e\uff9f]/u;
/** Binds the character behind it: a joiner, and signs below which the next letter is drawn in Burmese, Khmer, Tai Tham. */
const BINDING = /[\u200d\u1039\u17d2\u1a60]/;

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
  if (/[\p{L}\p{Nl}\p{No}]/u.test(character) && WITHOUT_SPACES.test(character)) return "lone letter";
  if (/[\p{L}\p{N}_]/u.test(character)) return "letter";
  const isInside = LETTER.test(characters[index - 1] ?? "") && LETTER.test(characters[index + 1] ?? "");
  if ("'’".includes(character) && isInside) return "letter";
  return /\p{RI}/u.test(character) ? "flag" : "mark";
}

function continues(
  characters: readonly string[],
  index: number,
  kind: CharacterKind,
  previous: CharacterKind,
  length: number,
): boolean {
  if (ATTACHED.test(characters[index] as string) || BINDING.test(characters[index - 1] as string)) return true;
  // Two regional letters make one flag.
  return kind === previous && (kind === "letter" || (kind === "flag" && length === 1));
}

/** The words and punctuation marks of a prompt. */
export function splitPrompt(prompt: string): string[] {
  const characters = Array.from(prompt);
  return splitWords(characters).map(([start, end]) => characters.slice(start, end).join(""));
}
