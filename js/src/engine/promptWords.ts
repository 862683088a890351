// The words of a prompt along its tokens, as diffvis_widget/traces/prompt_words.py and tracer/words.py find them.
// Positions count code points, as Python does.

import type { WordKind } from "../core/protocol";
import { splitWords } from "../core/splitWords";
import type { Token } from "./tokenizer";

export interface PromptWord {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly token_texts: readonly string[];
  readonly kind: WordKind;
}

/** A word without differences that do not count when it is typed: case, composed letters, widths, apostrophes. */
export function foldWord(text: string): string {
  // Upper case first: only it makes ß and ss one. The sigma at the end of a word is the same letter.
  const lower = text.normalize("NFKD").toUpperCase().toLowerCase().replaceAll("ς", "σ");
  return lower.normalize("NFKD").replaceAll("’", "'");
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
