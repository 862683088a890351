"""Finds words, layers and steps by text, name or index; errors list what there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

from diffvis_widget.arguments import did_you_mean, shorten, step_index, whole_number

from .prompt_words import fold_word, split_words
from .types import Layer, Word


def pick_words(words: Sequence[Word], selection: Any) -> list[int]:
    """Finds words by text, index or a list of these.

    Args:
        words: the words to choose from.
        selection: a text in any case (all its occurrences; several words are found where they follow one another, and a
            part of a Chinese, Japanese or Thai text by the words that cover it), an index, or a list of these.

    Returns:
        Indices into ``words``, each once.

    Raises:
        KeyError: no word has this text, or the word was truncated.
        IndexError: there is no such index.
        TypeError: the selection has another type.
        ValueError: the list is empty.
    """
    if isinstance(selection, list | tuple):
        if not selection:
            raise ValueError("word: the list is empty; name at least one word")
        chosen: dict[int, None] = {}
        for part in cast("Sequence[Any]", selection):
            if isinstance(part, list | tuple):
                raise TypeError(f"word: a list names words by text or index, not {shorten(cast(object, part))}")
            chosen.update(dict.fromkeys(pick_words(words, part)))
        return list(chosen)
    if isinstance(selection, str):
        return _pick_text(words, selection)
    index = _as_index("word", selection, "a text of the prompt, an index, or a list of these")
    if not 0 <= index < len(words):
        raise IndexError(f"word {shorten(index)} is out of range: the trace has words 0 to {len(words) - 1}")
    if not words[index].tokens:
        raise KeyError(_truncated(words[index].text))
    return [index]


def _pick_text(words: Sequence[Word], text: str) -> list[int]:
    """Indices of the words that cover each occurrence of the text.

    A word of the trace may hold several: a token can span a mark and the letters behind it ("-truck").
    """
    target = [fold_word(part) for part in _parts(text)]
    typed = [
        (fold_word(part), index)
        for index, word in enumerate(words)
        if word.kind in ("word", "truncated")
        for part in _parts(word.text)
    ]
    matches: dict[int, None] = {}
    for start in range(len(typed) - len(target) + 1 if target else 0):
        run = typed[start : start + len(target)]
        one_encoder = words[run[0][1]].encoder == words[run[-1][1]].encoder
        if one_encoder and all(part == wanted for (part, _), wanted in zip(run, target, strict=True)):
            matches.update((index, None) for _, index in run)
    if not matches:  # special tokens, and single vectors of a learned word, match by their whole text
        matches = {index: None for index, word in enumerate(words) if fold_word(text) in _names(word)}
    if not matches:
        present = ", ".join(repr(word.text) for word in words if word.kind == "word" and word.tokens)
        concepts = ", ".join(repr(word.text) for word in words if word.kind == "concept")
        hint = did_you_mean(text, [word.text for word in words if word.kind in ("word", "concept")])
        concepts = f"; its concepts are: {concepts}" if concepts else ""
        raise KeyError(f"word {shorten(text)} is not in the prompt; its words are: {present or 'none'}{concepts}{hint}")
    with_tokens = [index for index in matches if words[index].tokens]
    if not with_tokens:
        raise KeyError(_truncated(text))
    return with_tokens


def _names(word: Word) -> list[str]:
    """The word, and its tokens that were not typed: the vectors behind the first of a learned word."""
    typed = fold_word(word.text)
    tokens = [fold_word(token) for token in word.token_texts] if word.kind == "word" else []
    return [typed, *(token for token in tokens if token not in typed)]


def _parts(text: str) -> list[str]:
    return [text[start:end] for start, end in split_words(text)]


def _truncated(text: str) -> str:
    return (
        f"word {text!r} was cut off: it lies beyond the text that the model reads, or the pipeline cleaned it away, so "
        "it has no heat map"
    )


def pick_layers(layers: Sequence[Layer], selection: Any) -> list[int]:
    """Finds layers by name, index or a list of these.

    Args:
        layers: the layers to choose from.
        selection: None for the default layers (all where none is a default one), "all", a name, an index (negative ones
            count from the end), or a list of names and indices.

    Returns:
        Indices into ``layers``, each once.

    Raises:
        KeyError: no layer has this name.
        IndexError: there is no such index.
        TypeError: the selection has another type.
        ValueError: the list is empty.
    """
    if selection is None:
        return [index for index, layer in enumerate(layers) if layer.default] or list(range(len(layers)))
    if isinstance(selection, list | tuple):
        if not selection:
            raise ValueError("layer: the list is empty; name at least one layer")
        chosen: dict[int, None] = {}
        for part in cast("Sequence[Any]", selection):
            if part is None or isinstance(part, list | tuple):
                raise TypeError(f"layer: a list names layers by name or index, not {shorten(cast(object, part))}")
            chosen.update(dict.fromkeys(pick_layers(layers, part)))
        return list(chosen)
    if isinstance(selection, str):
        if selection == "all":
            return list(range(len(layers)))
        matches = [index for index, layer in enumerate(layers) if layer.name == selection]
        if not matches:
            names = ", ".join(layer.name for layer in layers)
            hint = did_you_mean(selection, [layer.name for layer in layers])
            raise KeyError(f"layer {shorten(selection)} is not there; the layers are: {names}{hint}")
        return matches
    index = _as_index("layer", selection, 'a name, an index, a list of these, "all" or None')
    if not -len(layers) <= index < len(layers):
        raise IndexError(f"layer {shorten(index)} is out of range: the trace has layers 0 to {len(layers) - 1}")
    return [index % len(layers)]


def pick_steps(steps: int, selection: Any) -> list[int]:
    """Finds steps by index, list or slice.

    Args:
        steps: number of finished steps.
        selection: None for all, an index (negative ones count from the end), a slice, or a list of indices.

    Returns:
        Indices of steps, each once.

    Raises:
        IndexError: there is no such step, or no step in the slice.
        TypeError: the selection has another type.
        ValueError: the list is empty, or the slice cannot be.
    """
    if selection is None:
        return list(range(steps))
    if isinstance(selection, slice):
        try:
            chosen = range(steps)[selection]
        except (TypeError, ValueError) as error:
            raise type(error)(f"step: {selection!r} is no slice of steps: {error}") from None
        if not chosen:
            raise IndexError(
                f"step: {selection!r} holds no step: the indices of this trace's steps are 0 to {steps - 1}"
            )
        return list(chosen)
    if isinstance(selection, list | tuple | range) or getattr(selection, "ndim", 0) == 1:
        indices = [step_index(index, steps) for index in cast("Sequence[Any]", selection)]
        if not indices:
            raise ValueError("step: the list is empty; name at least one step, or None for all")
        return list(dict.fromkeys(indices))
    if isinstance(selection, str | float) or not hasattr(selection, "__index__"):
        allowed = "an integer, a slice, a list of integers, or None for all"
        raise TypeError(f"step must be {allowed}, not {shorten(selection)}")
    return [step_index(selection, steps)]


def pick_frame(frames: int, selection: Any) -> int | Literal["all"] | None:
    """Finds a latent frame by index.

    Args:
        frames: number of latent frames; 1 for an image.
        selection: None for their mean, "all", or an index (negative ones count from the end).

    Returns:
        None, "all", or the index from 0.

    Raises:
        IndexError: there is no such frame.
        TypeError: the selection has another type.
        ValueError: it is another text.
    """
    if selection is None:
        return None
    if isinstance(selection, str):
        if selection == "all":
            return "all"
        raise ValueError(f'frame must be an index of a latent frame, "all" or None, not {shorten(selection)}')
    index = _as_index("frame", selection, 'an index of a latent frame, "all" or None')
    if not -frames <= index < frames:
        raise IndexError(f"frame {shorten(index)} is out of range: this trace has the latent frames 0 to {frames - 1}")
    return index % frames


def _as_index(name: str, value: Any, allowed: str) -> int:
    number = whole_number(value)
    if number is None:
        raise TypeError(f"{name} must be {allowed}, not {shorten(value)}")
    return number
