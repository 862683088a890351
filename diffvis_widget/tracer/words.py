"""The words of a prompt, from the tokens of a text encoder.

Tokenizers report which characters each token covers; a word is a run of typed characters together with all tokens that
overlap it. This works for every tokenizer with offsets (CLIP's BPE, SentencePiece, byte-level BPE), and for
prompts that the pipeline cleans before it encodes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from diffvis_widget.traces import Word
from diffvis_widget.traces.prompt_words import split_words
from diffvis_widget.traces.types import WordKind

from .prompt_alignment import locate_prompt
from .word_segmentation import segment_words


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


_ZONES: tuple[WordKind, ...] = ("template", "word", "template")
"""Kinds of the text before, inside and behind the prompt."""
_IMAGE_TOKEN = "<|image_pad|>"  # of the text encoders of Qwen, one for each patch of an image


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
    ends = [token.start for token in tokens if token.special and token.end > token.start]
    place = locate_prompt(encoded, typed, ends)
    first, last = place.start, place.end
    typed_range = place.source(first, last) or (0, 0)
    groups: tuple[list[_Group], ...] = (
        _groups(encoded[:first], 0),
        _groups(place.prompt, 0) if typed_range[1] else [],
        _groups(encoded[last:], last),
    )
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
        text = encoded[max(token.start, 0) : token.end]
        source = place.source(token.start, token.end) if zone == 1 else (token.start, token.end)
        if special or token.start == token.end or not groups[zone]:
            kind = "template" if not special and zone != 1 and first < last else "special"
            others.append((position, Word(token.text, (position,), kind, encoder=encoder)))
        elif source is None and text.strip():  # the pipeline put it between the words
            others.append((position, Word(text.strip(), (position,), "template", (text,), encoder)))
        else:
            _assign(groups[zone], position, *(source or (place.following(token.start),) * 2))
    _join_segments(groups[1], place.prompt)
    words: list[tuple[int, Word]] = []
    latest = -1
    for zone, kind in enumerate(_ZONES):
        for group in groups[zone]:
            if not group.tokens and kind == "template":
                continue
            latest = group.tokens[0] if group.tokens else latest
            text = (place.prompt if kind == "word" else encoded)[group.start : group.end]
            spans = [(tokens[position].start, tokens[position].end) for position in group.tokens]
            token_texts = tuple(encoded[max(start, 0) : end] for start, end in spans)
            word = Word(text, tuple(group.tokens), kind if group.tokens else "truncated", token_texts, encoder)
            words.append((latest, word))
    ordered = _join_image_tokens([word for _, word in sorted([*words, *others], key=lambda item: item[0])])
    if padding:
        ordered.append(Word("padding", tuple(padding), "padding", encoder=encoder))
    return ordered


def _join_image_tokens(words: Sequence[Word]) -> list[Word]:
    """One word for all tokens of a reference image, which an editing model has among those of its text."""
    joined: list[Word] = []
    for word in words:
        if word.text == _IMAGE_TOKEN and joined and joined[-1].text == _IMAGE_TOKEN:
            joined[-1] = replace(joined[-1], tokens=(*joined[-1].tokens, *word.tokens))
        else:
            joined.append(word)
    return joined


def _groups(text: str, offset: int) -> list[_Group]:
    return [_Group(offset + start, offset + end) for start, end in split_words(text)]


def _join_segments(groups: list[_Group], prompt: str) -> None:
    """Join the letters of scripts without spaces to the words that a dictionary knows, if one is installed."""
    for start, end in segment_words(prompt):
        inside = [group for group in groups if start <= group.start and group.end <= end]
        for other in inside[1:]:
            inside[0].end = other.end
            inside[0].tokens += other.tokens
            groups.remove(other)


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
