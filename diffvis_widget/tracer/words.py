"""From the tokens that a text encoder reads to the words that were typed.

Tokenizers report for each token which characters it covers; a word is a run of typed characters together with all
tokens that touch it. This serves every tokenizer with offsets (CLIP's BPE, SentencePiece, byte-level BPE) alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from diffvis_widget.traces import Word
from diffvis_widget.traces.prompt_words import split_words
from diffvis_widget.traces.types import WordKind


@dataclass(frozen=True)
class Token:
    """One token of a text encoder's input: the characters it covers, and whether it is special or read at all."""

    text: str
    start: int
    end: int
    special: bool
    attended: bool


@dataclass
class _Group:
    start: int
    end: int
    tokens: list[int] = field(default_factory=list[int])


def tokens_of(tokenizer: Any, encoding: Any) -> list[Token]:
    """The tokens of one text, from what a fast tokenizer (a `tokenizers.Encoding`) says of it."""
    # those that a template spells out in the text count too; an unknown word is still a word
    marks = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    marks -= {tokenizer.unk_token_id}
    return [
        Token(text, start, end, bool(added) or number in marks, bool(attended))
        for text, number, (start, end), added, attended in zip(
            encoding.tokens,
            encoding.ids,
            encoding.offsets,
            encoding.special_tokens_mask,
            encoding.attention_mask,
            strict=True,
        )
    ]


def words_of(tokens: Sequence[Token], encoded: str, typed: str, stream: str = "") -> list[Word]:
    """The words of `typed` along the positions of `tokens`, in order of position, padding last.

    encoded: what the tokenizer was given, which may wrap the prompt in a template or have cleaned it.
    """
    first, last, shown = _find(encoded, typed, tokens)
    zones: list[tuple[int, int, WordKind]]
    zones = [(0, first, "template"), (first, last, "word"), (last, len(encoded), "template")]
    groups: dict[int, list[_Group]] = {
        zone: [_Group(start + a, start + b) for a, b in split_words(encoded[start:end])]
        for zone, (start, end, _) in enumerate(zones)
    }
    # a template's own words are known by their tokens alone: those that the denoiser never sees are no words of it
    others: list[tuple[int, Word]] = []
    padding: list[int] = []
    for position, token in enumerate(tokens):
        if not token.attended:
            padding.append(position)
            continue
        zone = 1 if first < token.end and token.start < last else 0 if token.start < first else 2
        # whoever types a special token's name means it as text
        special = token.special and (zone != 1 or token.start == token.end)
        if special or token.start == token.end or not groups[zone]:
            kind = "template" if not special and zone != 1 and first < last else "special"
            others.append((position, Word(token.text, (position,), kind, encoder=stream)))
        else:
            _assign(groups[zone], position, token.start, token.end)
    words: list[tuple[int, Word]] = []
    latest = -1
    for zone, (_, _, kind) in enumerate(zones):
        for group in groups[zone]:
            if not group.tokens and kind == "template":
                continue
            latest = group.tokens[0] if group.tokens else latest
            text = encoded[group.start : group.end]
            if kind == "word":
                text = shown[group.start - first : group.end - first]
            pieces = tuple(encoded[max(tokens[one].start, 0) : tokens[one].end] for one in group.tokens)
            made = Word(text, tuple(group.tokens), kind if group.tokens else "truncated", pieces, stream)
            words.append((latest, made))
    ordered = [word for _, word in sorted([*words, *others], key=lambda item: item[0])]
    if padding:
        ordered.append(Word("padding", tuple(padding), "padding", encoder=stream))
    return ordered


def _find(encoded: str, typed: str, tokens: Sequence[Token]) -> tuple[int, int, str]:
    """Where the prompt lies in what was encoded, and its text there as typed.

    A pipeline may strip and lower-case it, and wrap it in a template; the whole text where it cannot be found.
    """
    for wanted in (typed, typed.strip()):
        if wanted and encoded.strip() == wanted.strip():
            start = encoded.index(wanted) if wanted in encoded else 0
            return start, start + len(wanted), wanted
    ends = {token.start for token in tokens if token.special and token.end > token.start} | {len(encoded)}
    for wanted, place in ((typed, encoded), (typed.strip(), encoded), (typed.strip().lower(), encoded.lower())):
        if not wanted or len(place) != len(encoded):
            continue
        starts = [at for at in range(len(place)) if place.startswith(wanted, at)]
        # a short prompt may occur in the template too: its own place ends where a special token or nothing follows
        own = [at for at in starts if at + len(wanted) in ends] or starts
        if own:
            shown = typed.strip()
            return own[-1], own[-1] + len(wanted), shown if len(shown) == len(wanted) else typed
    return (0, len(encoded), encoded) if typed.strip() else (len(encoded), len(encoded), "")


def _assign(groups: list[_Group], position: int, start: int, end: int) -> None:
    """Give the token to the group it touches; where it spans several ("!!" in one token), they become one."""
    touched = [group for group in groups if group.start < end and start < group.end]
    if not touched:  # white space alone goes with the word that follows it
        touched = [group for group in groups if group.start >= end][:1] or groups[-1:]
    first = touched[0]
    first.tokens.append(position)
    for other in touched[1:]:
        first.end = other.end
        first.tokens += other.tokens
        groups.remove(other)


def positions(length: int) -> list[Word]:
    """Words for embeddings that came without text: one per position, named by its number."""
    return [Word(str(position), (position,), "word") for position in range(length)]


def shifted(words: Sequence[Word], *offsets: int) -> list[Word]:
    """The same words where their stream begins in the keys; at each of several places it is repeated."""
    return [
        replace(word, tokens=tuple(offset + token for offset in offsets for token in word.tokens)) for word in words
    ]


def second_words(words: Sequence[Word], second: Sequence[Word]) -> list[Word]:
    """Words of two prompts on the same positions (SDXL's `prompt_2`): the second's follow the first's."""
    return [*words, *(word for word in second if word.kind in ("word", "truncated"))]
