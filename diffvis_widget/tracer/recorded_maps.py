"""Lays the attention maps of captured steps into the arrays of a trace."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffvis_widget.tracer.families import Family
from diffvis_widget.traces import Trace, Word
from diffvis_widget.traces.resize import mean_maps
from diffvis_widget.traces.types import Keep, Size, StepMaps

from .active_interventions import PromptSchedule
from .attention import MapKind
from .attention_probabilities import FlatMaps
from .concept_encoding import Concepts

_OF_CONCEPTS: dict[MapKind, MapKind] = {
    "prompt": "concepts",
    "output": "concept output",
    "refined": "refined concepts",
}


class CapturedMaps(Protocol):
    """The maps of one denoising step, on the CPU."""

    @property
    def maps(self) -> Mapping[MapKind, FlatMaps]:
        """By kind, of all layers that ran."""
        ...

    @property
    def size(self) -> Size:
        """(h, w) of the latents."""
        ...

    @property
    def grid_of(self) -> Callable[[str], Size | None]:
        """Layer -> the grid that it works on; None where that is not known."""
        ...


class RecordedMaps:
    """The maps of one pipeline call. Where a cache skipped a layer, they are its latest ones.

    Args:
        family: The denoiser's family.
        keep: Which attention maps to store, as for `Tracer`.
        schedule: Which prompt is in force at which step.
        lengths: Number of text tokens of each image's prompt.
        concepts: Words outside the prompt; None without.

    Attributes:
        keep: Which attention maps to store.
        frame_axis: (F,) for a video of F latent frames, else empty.
        words: Of each image, the words of the prompt and then the concepts.
        ran: Of the current step, by kind, the maps of the layers that ran.
    """

    keep: Keep
    frame_axis: tuple[int, ...]
    words: list[list[Word]]
    ran: dict[MapKind, dict[str, Tensor]]

    def __init__(
        self, family: Family, keep: Keep, schedule: PromptSchedule, lengths: Sequence[int], concepts: Concepts | None
    ) -> None:
        self._family, self.keep, self._schedule = family, keep, schedule
        self.frame_axis = ()
        self._concepts = concepts if any(lengths) else None
        self._prompt_words = [len(words) for words in schedule.words]
        self.words = [
            [*words, *([] if self._concepts is None else self._concepts.words(length))]
            for words, length in zip(schedule.words, lengths, strict=True)
        ]
        self._latest: dict[MapKind, dict[str, Tensor]] = {}
        self.ran = {}

    def begin(self, captured: CapturedMaps, step: int) -> None:
        """Take the maps of a step.

        Args:
            captured: The step.
            step: Its index.
        """
        self.ran = {
            part: {
                site: self._schedule.spread(values, step) if part in _OF_CONCEPTS else values
                for site, values in by_layer(captured, part).items()
            }
            for part in captured.maps
        }

    def end(self) -> None:
        """Remember the maps of the step for steps that a cache skips."""
        for part, maps in self.ran.items():
            self._latest[part] = {**self._latest.get(part, {}), **maps}

    def _source(self, part: MapKind, layer: str) -> Tensor | None:
        return self.ran.get(part, {}).get(layer, self._latest.get(part, {}).get(layer))

    def _of_image(self, part: MapKind, layer: str, image: int) -> NDArray[np.float16] | None:
        """The maps of the prompt's words and the concepts in a layer, (heads or 1, words, image tokens)."""
        source = self._source(part, layer)
        if source is None:
            return None
        maps = np.moveaxis(source[image, :, :, : self._prompt_words[image]].numpy(), -1, 1)
        if self._concepts is None:
            return maps
        concepts = self._source(_OF_CONCEPTS[part], layer)
        if concepts is None:  # the block before it was skipped at the first step
            shape = (maps.shape[0], len(self._concepts.texts), maps.shape[2])
            return np.concatenate([maps, np.full(shape, np.nan, np.float16)], axis=1)
        return np.concatenate([maps, np.moveaxis(concepts[image].numpy(), -1, 1)], axis=1)

    def maps(self, trace: Trace, image: int, part: MapKind = "prompt") -> StepMaps:
        """The maps of an image in all layers.

        Args:
            trace: The trace of the image.
            image: Its index.
            part: "prompt" or "output".

        Returns:
            float16 (heads or 1, words, h, w) for each layer, or a single one of their mean.
        """
        return self._on_grids(trace, trace.words, {name: self._of_image(part, name, image) for name in _names(trace)})

    def negative(self, trace: Trace, image: int) -> StepMaps | None:
        """The maps of the negative prompt's words.

        Args:
            trace: The trace of the image.
            image: Its index.

        Returns:
            As `maps`; None at steps without guidance.
        """
        if trace.negative_words is None or "negative" not in self.ran:
            return None
        count = len(trace.negative_words)
        sources = {name: self._source("negative", name) for name in _names(trace)}
        maps = {
            name: None if source is None else np.moveaxis(source[image, :, :, :count].numpy(), -1, 1)
            for name, source in sources.items()
        }
        return self._on_grids(trace, trace.negative_words, maps)

    def _on_grids(
        self, trace: Trace, words: Sequence[Word], maps_by_layer: Mapping[str, NDArray[np.float16] | None]
    ) -> StepMaps:
        """Maps (heads or 1, words, image tokens) as a trace stores them: on their grids, NaN for padding."""
        stored: list[NDArray[np.float16]] = []
        padding = _padding(words)
        for layer in trace.layers:
            axes = (*self.frame_axis, *layer.grid)
            maps = maps_by_layer[layer.name]
            if maps is None:
                heads = layer.heads if self.keep == "heads" else 1
                stored.append(np.full((heads, len(words), *axes), np.nan, dtype=np.float16))
                continue
            on_grid = np.array(self._by_frame(maps, axes), dtype=np.float16, order="C")
            if layer.kind == "joint":
                on_grid[:, padding] = np.nan
            stored.append(on_grid)
        if self.keep != "words" or not stored:
            return tuple(stored)
        default = [stored[index][0].astype(np.float32) for index, layer in enumerate(trace.layers) if layer.default]
        return (mean_maps(default)[None].astype(np.float16),)

    def _by_frame(self, maps: NDArray[np.float16], axes: Sequence[int]) -> NDArray[np.float16]:
        """Maps (heads or 1, words, image tokens) on axes (h, w) or (F, h, w)."""
        tokens = maps.reshape(*maps.shape[:2], -1, *axes[-2:])
        if (count := self._family.frames_per_token) > 1 and len(axes) == 3:
            # a token of several frames counts in each of them; frames of padding come first, and belong to no video
            tokens = tokens.repeat(count, axis=2)[:, :, -axes[0] :]
        return tokens.reshape(*maps.shape[:2], *axes)

    def refined(self, captured: CapturedMaps, trace: Trace, image: int) -> NDArray[np.float16] | None:
        """The refined maps of an image.

        Args:
            captured: The step.
            trace: The trace of the image.
            image: Its index.

        Returns:
            float16 (words, h, w) or (words, F, h, w); None where there are none, at this step or at the first one.
        """
        layer = next(iter(self.ran.get("refined", {}) or self._latest.get("refined", {})), None)
        if layer is None or (trace.records and trace.records[0].refined is None):
            return None
        values = self._of_image("refined", layer, image)
        assert values is not None
        frames = math.prod(self.frame_axis)
        grid = captured.grid_of(layer) or self._family.grid(values.shape[2], captured.size, frames)
        assert grid is not None  # they were refined on it
        maps = np.array(self._by_frame(values, (*self.frame_axis, *grid))[0], dtype=np.float16, order="C")
        if self._family.attention_kind == "joint":
            maps[_padding(trace.words)] = np.nan
        return maps


def by_layer(captured: CapturedMaps, part: MapKind) -> dict[str, Tensor]:
    """The maps of one kind by layer.

    Args:
        captured: A step.
        part: The kind.

    Returns:
        float16 (images, heads or 1, image tokens, words) of each layer that ran.
    """
    maps = captured.maps.get(part)
    return {} if maps is None else {layer: maps.of(layer) for layer in maps.places}


def _names(trace: Trace) -> list[str]:
    return [layer.name for layer in trace.layers]


def _padding(words: Sequence[Word]) -> list[int]:
    return [index for index, word in enumerate(words) if word.kind == "padding"]
