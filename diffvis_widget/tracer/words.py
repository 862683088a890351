"""From the tokens that a text encoder reads to the words that were typed.

Tokenizers report for each token which characters it covers; a word is a run of typed characters together with all
tokens that touch it. This serves every tokenizer with offsets (CLIP's BPE, SentencePiece, byte-level BPE) alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diffvis_widget.traces import Word
from diffvis_widget.traces.text import split_words


@dataclass
class _Group:
    start: int
    end: int
    tokens: list[int]


def words_of(tokenizer: Any, text: str, length: int) -> list[Word] | None:
    """The words of `text` along `length` text positions, padding last; None if they cannot be told.

    They cannot where the tokenizer reports no offsets, or gives another number of positions than the denoiser sees.
    """
    if not getattr(tokenizer, "is_fast", False):
        return None
    options: dict[str, Any] = {"return_offsets_mapping": True, "return_special_tokens_mask": True}
    seen = tokenizer(text, padding="max_length", max_length=length, truncation=True, **options)
    if len(seen["input_ids"]) != length:
        return None
    names: list[str] = tokenizer.convert_ids_to_tokens(seen["input_ids"])
    groups = [_Group(start, end, []) for start, end in split_words(text)]
    pieces: dict[int, str] = {}
    others: list[Word] = []
    padding: list[int] = []
    for position, (start, end) in enumerate(seen["offset_mapping"]):
        if not seen["attention_mask"][position]:
            padding.append(position)
        elif seen["special_tokens_mask"][position] or start == end or not groups:
            others.append(Word(names[position], (position,), "special"))
        else:
            pieces[position] = text[start:end]
            _assign(groups, position, start, end)
    words = [
        Word(
            text[group.start : group.end],
            tuple(group.tokens),
            "word" if group.tokens else "truncated",
            tuple(pieces[token] for token in group.tokens),
        )
        for group in groups
    ]
    before = [word for word in others if not pieces or word.tokens[0] < min(pieces)]
    after = [word for word in others if word not in before]
    if padding:
        after.append(Word("padding", tuple(padding), "padding"))
    return [*before, *words, *after]


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


def second_words(words: Sequence[Word], second: Sequence[Word]) -> list[Word]:
    """Words of two prompts on the same positions (SDXL's `prompt_2`): the second's follow the first's."""
    return [*words, *(word for word in second if word.kind in ("word", "truncated"))]
