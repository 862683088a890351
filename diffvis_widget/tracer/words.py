"""The words of a prompt, from the tokens of a text encoder.

Tokenizers report which characters each token covers; a word is a run of typed characters together with all tokens that
overlap it. This works for every tokenizer with offsets (CLIP's BPE, SentencePiece, byte-level BPE).
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
    """One token of a text encoder's input.

    Attributes:
        text: Text of the token.
        start: Index of its first character in the encoded text.
        end: Index behind its last character; equal to `start` for a token that covers no text.
        special: Whether it is a special token, such as a start or end token.
        attended: Whether the attention mask includes it; False for padding.
    """

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


def read_tokens(tokenizer: Any, encoding: Any) -> list[Token]:
    """Read the tokens of one text.

    Args:
        tokenizer: A fast tokenizer of transformers.
        encoding: Its `tokenizers.Encoding` of the text.

    Returns:
        The tokens in order.
    """
    # special tokens that a template spells out count too; the unknown token stands for a word
    special_ids = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    special_ids -= {tokenizer.unk_token_id}
    return [
        Token(text, start, end, bool(added) or token_id in special_ids, bool(attended))
        for text, token_id, (start, end), added, attended in zip(
            encoding.tokens,
            encoding.ids,
            encoding.offsets,
            encoding.special_tokens_mask,
            encoding.attention_mask,
            strict=True,
        )
    ]


def find_words(tokens: Sequence[Token], encoded: str, typed: str, encoder: str = "") -> list[Word]:
    """Find the words of a prompt along its tokens.

    Args:
        tokens: Tokens of `encoded`.
        encoded: The text that the tokenizer received: the prompt, perhaps cleaned or inside a template.
        typed: The prompt as typed.
        encoder: Label of the text encoder for `Word.encoder`.

    Returns:
        The words in order of position, padding last.
    """
    first, last, shown = _locate_prompt(encoded, typed, tokens)
    zones: list[tuple[int, int, WordKind]]
    zones = [(0, first, "template"), (first, last, "word"), (last, len(encoded), "template")]
    groups: dict[int, list[_Group]] = {
        zone: [_Group(start + a, start + b) for a, b in split_words(encoded[start:end])]
        for zone, (start, end, _) in enumerate(zones)
    }
    # template words without tokens are left out: the denoiser does not receive them
    others: list[tuple[int, Word]] = []
    padding: list[int] = []
    for position, token in enumerate(tokens):
        if not token.attended:
            padding.append(position)
            continue
        zone = 1 if first < token.end and token.start < last else 0 if token.start < first else 2
        # a special token's name inside the prompt is text
        special = token.special and (zone != 1 or token.start == token.end)
        if special or token.start == token.end or not groups[zone]:
            kind = "template" if not special and zone != 1 and first < last else "special"
            others.append((position, Word(token.text, (position,), kind, encoder=encoder)))
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
            spans = [(tokens[position].start, tokens[position].end) for position in group.tokens]
            token_texts = tuple(encoded[max(start, 0) : end] for start, end in spans)
            word = Word(text, tuple(group.tokens), kind if group.tokens else "truncated", token_texts, encoder)
            words.append((latest, word))
    ordered = [word for _, word in sorted([*words, *others], key=lambda item: item[0])]
    if padding:
        ordered.append(Word("padding", tuple(padding), "padding", encoder=encoder))
    return ordered


def _locate_prompt(encoded: str, typed: str, tokens: Sequence[Token]) -> tuple[int, int, str]:
    """Start and end of the prompt in the encoded text, and its text as typed; the whole text if it does not occur.

    A pipeline may strip and lower-case the prompt, and wrap it in a template.
    """
    for prompt in (typed, typed.strip()):
        if prompt and encoded.strip() == prompt.strip():
            start = encoded.index(prompt) if prompt in encoded else 0
            return start, start + len(prompt), prompt
    ends = {token.start for token in tokens if token.special and token.end > token.start} | {len(encoded)}
    for prompt, text in ((typed, encoded), (typed.strip(), encoded), (typed.strip().lower(), encoded.lower())):
        if not prompt or len(text) != len(encoded):
            continue
        starts = [start for start in range(len(text)) if text.startswith(prompt, start)]
        # a short prompt may occur in the template too: prefer an occurrence followed by a special token or the end
        starts = [start for start in starts if start + len(prompt) in ends] or starts
        if starts:
            shown = typed.strip()
            return starts[-1], starts[-1] + len(prompt), shown if len(shown) == len(prompt) else typed
    return (0, len(encoded), encoded) if typed.strip() else (len(encoded), len(encoded), "")


def _assign(groups: list[_Group], position: int, start: int, end: int) -> None:
    """Assign a token to the group that it overlaps; groups that it spans (one token for "!!") are merged."""
    overlapped = [group for group in groups if group.start < end and start < group.end]
    if not overlapped:  # white space alone belongs to the following word
        overlapped = [group for group in groups if group.start >= end][:1] or groups[-1:]
    first = overlapped[0]
    first.tokens.append(position)
    for other in overlapped[1:]:
        first.end = other.end
        first.tokens += other.tokens
        groups.remove(other)


def number_positions(length: int) -> list[Word]:
    """Make words for embeddings that were passed without text.

    Args:
        length: Number of text tokens.

    Returns:
        One word per position, named by its index.
    """
    return [Word(str(position), (position,), "word") for position in range(length)]


def shift_words(words: Sequence[Word], *offsets: int) -> list[Word]:
    """Shift words to where their stream begins in the text tokens.

    Args:
        words: Words of one stream.
        *offsets: First position of each occurrence of the stream.

    Returns:
        The words with the positions of all occurrences.
    """
    return [
        replace(word, tokens=tuple(offset + token for offset in offsets for token in word.tokens)) for word in words
    ]


def append_second_prompt(words: Sequence[Word], second: Sequence[Word]) -> list[Word]:
    """Append the words of a second prompt on the same positions (SDXL's `prompt_2`).

    Args:
        words: Words of the first prompt.
        second: Words of the second prompt.

    Returns:
        All words of the first prompt, then those of the second without special tokens and padding.
    """
    return [*words, *(word for word in second if word.kind in ("word", "truncated"))]
