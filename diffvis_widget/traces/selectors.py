"""Finding words and layers by what a reader calls them, with errors that say what is there."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Protocol

from .prompt_words import split_words


class _Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def default(self) -> bool: ...


class _Written(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def tokens(self) -> tuple[int, ...]: ...
    @property
    def kind(self) -> str: ...


def pick_words(words: Sequence[_Written], wanted: Any) -> list[int]:
    """Indices of the words meant by a text, an index or a list of these; each index once.

    A text of several words ("blue square") means each place where they follow one another.
    """
    if isinstance(wanted, list | tuple):
        if not wanted:
            raise ValueError("word: the list is empty; name at least one word")
        chosen: dict[int, None] = {}
        for one in wanted:  # pyright: ignore[reportUnknownVariableType]
            chosen.update(dict.fromkeys(pick_words(words, one)))
        return list(chosen)
    if isinstance(wanted, str):
        return _pick_text(words, wanted)
    index = _as_index("word", wanted, "a text of the prompt, an index, or a list of these")
    if not 0 <= index < len(words):
        raise IndexError(f"word {index} is out of range: the trace has words 0 to {len(words) - 1}")
    if not words[index].tokens:
        raise KeyError(_cut_off(words[index].text))
    return [index]


def _pick_text(words: Sequence[_Written], wanted: str) -> list[int]:
    target = wanted.casefold()
    parts = [target[start:end] for start, end in split_words(target)] or [target]
    typed = [index for index, word in enumerate(words) if word.kind in ("word", "truncated")]
    found: dict[int, None] = {}
    for start in range(len(typed) - len(parts) + 1):
        run = typed[start : start + len(parts)]
        if all(words[index].text.casefold() == part for index, part in zip(run, parts, strict=True)):
            found.update(dict.fromkeys(run))
    if not found:  # words that the tokenizer keeps in one piece, and special tokens, go by their whole text
        found = {index: None for index, word in enumerate(words) if word.text.casefold() == target}
    if not found:
        there = ", ".join(repr(word.text) for word in words if word.kind == "word" and word.tokens)
        raise KeyError(f"word {wanted!r} is not in the prompt; its words are: {there or 'none'}")
    seen = [index for index in found if words[index].tokens]
    if not seen:
        raise KeyError(_cut_off(wanted))
    return seen


def _cut_off(text: str) -> str:
    return f"word {text!r} was cut off: it lies beyond the text that the model reads, so it has no heat map"


def pick_layers(layers: Sequence[_Named], wanted: Any) -> list[int]:
    """Indices of the layers meant by None (the default ones), "all", a name, an index or a list of these."""
    if wanted is None:
        return [index for index, layer in enumerate(layers) if layer.default]
    if isinstance(wanted, list | tuple):
        if not wanted:
            raise ValueError("layer: the list is empty; name at least one layer")
        chosen: dict[int, None] = {}
        for one in wanted:  # pyright: ignore[reportUnknownVariableType]
            if one is None:
                raise TypeError("layer: a list names layers by name or index, not None")
            chosen.update(dict.fromkeys(pick_layers(layers, one)))
        return list(chosen)
    if isinstance(wanted, str):
        if wanted == "all":
            return list(range(len(layers)))
        found = [index for index, layer in enumerate(layers) if layer.name == wanted]
        if not found:
            raise KeyError(f"layer {wanted!r} is not there; the layers are: {', '.join(one.name for one in layers)}")
        return found
    index = _as_index("layer", wanted, 'a name, an index, a list of these, "all" or None')
    if not -len(layers) <= index < len(layers):
        raise IndexError(f"layer {index} is out of range: the trace has layers 0 to {len(layers) - 1}")
    return [index % len(layers)]


def _as_index(name: str, value: Any, allowed: str) -> int:
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(f"{name} must be {allowed}, not {value!r}")
