"""Words that exclude each other: where a thing is red it is not blue, and where a star is there is no boat.

Where such words are outside the prompt, their refined maps compete, and the words of the prompt compete with them: the
map of a single word outside of it keeps off the places of the prompt's words. A word that stands both in the prompt and
outside of it competes as the latter only.

The maps of the prompt's own words stay as they are, but for settings: the attention to a setting is high on the objects
that stand in it, and its share among these is not. A prompt's setting competes with the prompt's words alone, so that
its map does not depend on what is read beside the prompt.

The choices were made on 80 scenes of the built-in world (held-out scenes 200 to 279, also with prompts that name one of
their two things) and on the pairs 100 to 149 of `python -m diffvis_widget.explain.evaluation.concept_maps`, which
measures other ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from diffvis_widget.shipped import has_scenes_mark
from diffvis_widget.traces import Word

from .refinement import Competition

_LEAST = 1e-30  # keeps the division possible for words without any attention


@dataclass(frozen=True)
class ExclusiveWords:
    """Words that exclude each other.

    Attributes:
        words: The words in lower case.
        others: Further words that they exclude, but that do not compete with them in turn.
        power: How strongly they compete: the power of a word's share.
        weighted: What the share weights: "attention", before it is refined; the "refined" map; or "nothing", so that
            the share is refined in place of the attention.
        is_last: Whether they compete in the last default layer, and not in the mean of all default layers.
        in_prompt: Whether those of the prompt compete with its other words too.
    """

    words: frozenset[str]
    others: frozenset[str]
    power: int
    weighted: Literal["attention", "refined", "nothing"]
    is_last: bool = False
    in_prompt: bool = False


_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "violet", "pink", "brown", "black", "white", "grey",
            "gray")  # fmt: skip
_OBJECTS = ("circle", "square", "triangle", "star", "heart", "ring", "sun", "moon", "tree", "house", "boat", "fish",
            "flower", "balloon")  # fmt: skip
_SETTINGS = ("day", "night", "sea", "grass", "sand", "snow", "sunset")
COLOURS = ExclusiveWords(frozenset(_COLOURS), frozenset(), power=8, weighted="refined", is_last=True)
OBJECTS = ExclusiveWords(frozenset(_OBJECTS), frozenset(), power=4, weighted="attention")
SETTINGS = ExclusiveWords(frozenset(_SETTINGS), frozenset(_OBJECTS), power=1, weighted="nothing", in_prompt=True)


@dataclass(frozen=True)
class Rivals:
    """The words of one group in one image.

    Attributes:
        group: The group.
        members: Indices of the words that belong to it: of concepts, or of the prompt's words.
        concepts: Indices of all concepts that compete.
        words: Indices of the prompt's words that compete; beside concepts without those that are concepts too.
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
    """Find the concepts of an image that compete.

    Args:
        groups: The groups.
        concepts: The words outside the prompt.
        words: The words of the prompt.

    Returns:
        Of each group with a concept and another word that competes with it.
    """
    outside = [text.casefold() for text in concepts]
    inside = ["" if text in outside else text for text in _texts(words)]
    rivals = [
        Rivals(group, _among(outside, group.words), _among(outside, competing), _among(inside, competing))
        for group in groups
        for competing in [group.words | group.others]
    ]
    return [part for part in rivals if part.members and len(part.concepts) + len(part.words) > 1]


def find_rivals_in_prompt(groups: Sequence[ExclusiveWords], words: Sequence[Word]) -> list[Rivals]:
    """Find the words of a prompt that compete with its other words.

    Args:
        groups: The groups.
        words: The words of the prompt.

    Returns:
        Of each group whose words compete in the prompt, and that has a word and another one there.
    """
    inside = _texts(words)
    rivals = [
        Rivals(group, _among(inside, group.words), [], _among(inside, group.words | group.others))
        for group in groups
        if group.in_prompt
    ]
    return [part for part in rivals if part.members and len(part.words) > 1]


def words_by_share(groups: Sequence[ExclusiveWords], words: Sequence[Word]) -> list[str]:
    """Find the words whose share is refined in place of their attention.

    Args:
        groups: The groups.
        words: The words of the prompt and the concepts of an image.

    Returns:
        Their texts.
    """
    concepts = [word.text for word in words if word.kind == "concept"]
    typed = [word for word in words if word.kind != "concept"]
    texts = {
        text: None
        for outside, rivals in (
            (False, find_rivals_in_prompt(groups, typed)),
            (True, find_rivals(groups, concepts, typed)),
        )
        for part in rivals
        if part.group.weighted == "nothing"
        for text in (concepts[index] if outside else typed[index].text for index in part.members)
    }
    return list(texts)


def compete(
    rivals: Sequence[Sequence[Rivals]], mean: Sequence[Tensor], last: Sequence[Tensor], frames: int = 1
) -> tuple[Tensor, Competition]:
    """Divide the maps of words outside the prompt by the sum over all words that compete with them.

    Args:
        rivals: Of each image, the words that compete.
        mean: float32 (images * frames, words, h, w) each, attention probabilities in the mean of all default layers:
            of the prompt's words, and of those outside of it.
        last: The same in the last default layer.
        frames: Frames of each video; 1 for images.

    Returns:
        What is refined of the words outside the prompt, and how their refined maps compete.
    """
    maps = mean[1].clone()
    shares, powers = torch.ones_like(maps), maps.new_zeros(maps.shape[1])
    for row in range(len(maps)):
        for part in rivals[row // frames]:
            words, concepts = (values[row] for values in (last if part.group.is_last else mean))
            total = concepts[list(part.concepts)].sum(dim=0) + words[list(part.words)].sum(dim=0)
            share = concepts[list(part.members)] / total.clamp_min(_LEAST)
            if part.group.weighted == "refined":
                shares[row, list(part.members)] = share
                powers[list(part.members)] = float(part.group.power)
            else:
                maps[row, list(part.members)] = _weighted(part.group, maps[row, list(part.members)], share)
    return maps, Competition(shares, powers)


def compete_in_prompt(rivals: Sequence[Sequence[Rivals]], maps: Tensor, frames: int = 1) -> Tensor:
    """Let the words of a prompt compete that exclude its other words.

    Args:
        rivals: Of each image, the words that compete.
        maps: float32 (images * frames, words, h, w), attention probabilities of the prompt's words.
        frames: Frames of each video; 1 for images.

    Returns:
        What is refined of these words; the maps themselves where none competes.
    """
    if not any(rivals):
        return maps
    weighted = maps.clone()
    for row in range(len(maps)):
        for part in rivals[row // frames]:
            members = maps[row, list(part.members)]
            share = members / maps[row, list(part.words)].sum(dim=0).clamp_min(_LEAST)
            weighted[row, list(part.members)] = _weighted(part.group, members, share)
    return weighted


def _weighted(group: ExclusiveWords, maps: Tensor, share: Tensor) -> Tensor:
    weights = share.pow(group.power)
    return weights if group.weighted == "nothing" else maps * weights


def _texts(words: Sequence[Word]) -> list[str]:
    return [word.text.casefold() if word.kind == "word" else "" for word in words]


def _among(texts: Sequence[str], chosen: frozenset[str]) -> list[int]:
    return [index for index, text in enumerate(texts) if text in chosen]
