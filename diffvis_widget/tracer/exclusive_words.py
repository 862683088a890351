"""Words that exclude each other: where a thing is red it is not blue, and where a star is there is no boat.

Where such words are outside the prompt, their refined maps compete, and the words of the prompt compete with them: the
map of a single word outside of it keeps off the places of the prompt's words. The maps of these stay as they are. A
word that stands both in the prompt and outside of it competes as the latter only.

The choices were made on 80 scenes of the built-in world (held-out scenes 200 to 279) and on the pairs 100 to 149 of
`python -m diffvis_widget.explain.evaluation.concept_maps`, which measures other ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffvis_widget.shipped import has_scenes_mark
from diffvis_widget.traces import Word

from .refinement import Competition


@dataclass(frozen=True)
class ExclusiveWords:
    """Words that exclude each other.

    Attributes:
        words: The words in lower case.
        others: Further words that they exclude, but that do not compete with them in turn.
        power: How strongly they compete: the power of a word's share.
        is_last: Whether they compete in the last default layer, and not in the mean of all default layers.
    """

    words: frozenset[str]
    others: frozenset[str]
    power: int
    is_last: bool


_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "violet", "pink", "brown", "black", "white", "grey",
            "gray")  # fmt: skip
_OBJECTS = ("circle", "square", "triangle", "star", "heart", "ring", "sun", "moon", "tree", "house", "boat", "fish",
            "flower", "balloon")  # fmt: skip
_SETTINGS = ("day", "night", "sea", "grass", "sand", "snow", "sunset")
COLOURS = ExclusiveWords(frozenset(_COLOURS), frozenset(), power=8, is_last=True)
OBJECTS = ExclusiveWords(frozenset(_OBJECTS), frozenset(), power=4, is_last=False)
SETTINGS = ExclusiveWords(frozenset(_SETTINGS), frozenset(_OBJECTS), power=4, is_last=False)


@dataclass(frozen=True)
class Rivals:
    """The words of one group in one image.

    Attributes:
        group: The group.
        members: Indices of the concepts that belong to it.
        concepts: Indices of all concepts that compete: the members, and others that they exclude.
        words: Indices of the prompt's words that compete, without those that are concepts too.
    """

    group: ExclusiveWords
    members: Sequence[int]
    concepts: Sequence[int]
    words: Sequence[int]


def exclusive_words(pipe: Any) -> tuple[ExclusiveWords, ...]:
    """List the groups of words that exclude each other in a pipeline.

    Args:
        pipe: The pipeline.

    Returns:
        Colours; for the built-in model its objects and settings too. In other models a star may well be a balloon.
    """
    return (COLOURS, OBJECTS, SETTINGS) if has_scenes_mark(pipe) else (COLOURS,)


def find_rivals(groups: Sequence[ExclusiveWords], concepts: Sequence[str], words: Sequence[Word]) -> list[Rivals]:
    """Find the words of an image that compete.

    Args:
        groups: The groups.
        concepts: The words outside the prompt.
        words: The words of the prompt.

    Returns:
        Of each group with a concept and another word that competes with it.
    """
    outside = [text.casefold() for text in concepts]
    inside = ["" if word.kind != "word" or word.text.casefold() in outside else word.text.casefold() for word in words]
    rivals: list[Rivals] = []
    for group in groups:
        competing = group.words | group.others
        parts = [
            [index for index, text in enumerate(texts) if text in chosen]
            for texts, chosen in ((outside, group.words), (outside, competing), (inside, competing))
        ]
        if parts[0] and len(parts[1]) + len(parts[2]) > 1:
            rivals.append(Rivals(group, *parts))
    return rivals


def compete(
    rivals: Sequence[Sequence[Rivals]], mean: Sequence[Tensor], last: Sequence[Tensor], frames: int = 1
) -> Competition:
    """Divide the maps of words outside the prompt by the sum over all words that compete with them.

    Args:
        rivals: Of each image, the words that compete.
        mean: float32 (images * frames, words, h, w) each, attention probabilities in the mean of all default layers:
            of the prompt's words, and of those outside of it.
        last: The same in the last default layer.
        frames: Frames of each video; 1 for images.

    Returns:
        The shares of all words, those outside the prompt behind the others.
    """
    shares = torch.ones_like(torch.cat(list(mean), dim=1))
    first, powers = mean[0].shape[1], shares.new_zeros(shares.shape[1])
    for row in range(len(shares)):
        for part in rivals[row // frames]:
            words, concepts = (values[row] for values in (last if part.group.is_last else mean))
            total = concepts[list(part.concepts)].sum(dim=0) + words[list(part.words)].sum(dim=0)
            columns = [first + index for index in part.members]
            shares[row, columns] = concepts[list(part.members)] / total.clamp_min(1e-30)
            powers[columns] = float(part.group.power)
    return Competition(shares, powers)
