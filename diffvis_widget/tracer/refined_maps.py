"""The refined maps of an evaluation: the mean over the default layers, refined by self-attention on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffvis_widget.tracer.families import Family
from diffvis_widget.traces import Layer, Word
from diffvis_widget.traces.types import Size

from .attention import AttentionReader
from .attention_probabilities import FlatMaps, flatten_maps
from .exclusive_words import (
    ExclusiveWords,
    compete,
    compete_in_prompt,
    exclusive_words,
    find_rivals,
    find_rivals_in_prompt,
)
from .latent_layout import LatentLayout
from .log_sum_exp import without_autocast
from .refinement import Competition, refine
from .spatial_inputs import SpatialInputs


class MapRefiner:
    """Adds refined maps to what was read in an evaluation.

    Args:
        family: The denoiser's family.
        modules: The word-attention modules by dotted path.
        grids: The grids that layers work on.
        pipe: The pipeline, which decides which words exclude each other.

    Attributes:
        heads: Number of heads of each word-attention module.
        groups: The words that exclude each other.
    """

    heads: Mapping[str, int]
    groups: Sequence[ExclusiveWords]

    def __init__(
        self,
        family: Family,
        modules: Mapping[str, nn.Module],
        grids: SpatialInputs,
        pipe: Any,
    ) -> None:
        self._family, self.groups = family, exclusive_words(pipe)
        self.heads = {name: _head_count(module) for name, module in modules.items()}
        self._grids = grids

    def add(self, reader: AttentionReader, latents: LatentLayout, words: Sequence[Sequence[Word]]) -> None:
        """Add the refined maps of the conditional branch, where it and self-attention were read.

        Args:
            reader: What was read in the evaluation that ended; its `maps` get "refined".
            latents: The layout of the latents.
            words: Of each image, the words of the prompt.
        """
        attention, maps, size = reader.self_attention, reader.maps.get("prompt"), latents.size
        reader.self_attention = None
        if attention is None or maps is None:
            return
        frames = -(-latents.frames // self._family.frames_per_token)  # of tokens
        grid = self._grid(attention.layer, attention.positions, size)
        if grid is None:
            return
        concepts = reader.maps.get("concepts")
        with torch.no_grad(), without_autocast(maps.flat.device):
            parts = [self._default_maps(maps, size, frames)]
            if concepts is not None:
                # Not beside the words: the number of columns of a product changes the last bits of each.
                attention = attention.to_cells(grid)
                parts.append(self._default_maps(concepts, size, frames))
                outside, competition = self._compete(reader, [maps, concepts], parts, size, words, frames)
                refined = refine(outside, attention, grid, competition, frames)
                reader.maps["refined concepts"] = flatten_maps({attention.layer: refined})
            rivals = [find_rivals_in_prompt(self.groups, of_image) for of_image in words]
            refined = refine(compete_in_prompt(rivals, parts[0], frames), attention, grid, frames=frames)
        reader.maps["refined"] = flatten_maps({attention.layer: refined})

    def _compete(
        self,
        reader: AttentionReader,
        read: Sequence[FlatMaps],
        parts: Sequence[Tensor],
        size: Size | None,
        words: Sequence[Sequence[Word]],
        frames: int,
    ) -> tuple[Tensor, Competition | None]:
        """What is refined of the concepts, and how concepts of cross-attention compete with words that they exclude."""
        if reader.concepts is None or self._family.concept_keys is None:
            return parts[1], None
        texts = reader.concepts.concepts.texts
        rivals = [find_rivals(self.groups, texts, of_image) for of_image in words]
        if not any(rivals):
            return parts[1], None
        last = parts
        if any(part.group.is_last for of_image in rivals for part in of_image):
            last = [self._default_maps(part, size, frames, last=True) for part in read]
        return compete(rivals, parts, last, frames)

    def _grid(self, layer: str, positions: int, size: Size | None) -> Size | None:
        return self._grids.grid(layer) or (None if size is None else self._family.grid(positions, size))

    def _default_layers(self, positions: Mapping[str, int], size: Size | None) -> list[Layer]:
        """The default ones of layers with that many image tokens, or all of them where none is."""
        layers: list[Layer] = []
        for name, count in positions.items():
            if (grid := self._grid(name, count, size)) is not None:
                layers.append(Layer(name, self._family.attention_kind, self.heads[name], grid, False))
        layers = [replace(layer, default=self._family.is_default_layer(layer, layers)) for layer in layers]
        return [layer for layer in layers if layer.default] or layers

    def _default_maps(self, maps: FlatMaps, size: Size | None, frames: int, last: bool = False) -> Tensor:
        """The mean over heads and default layers, or of the last of these, (images * frames, words, h, w).

        The grid is the finest of all default layers.
        """
        counts = {name: int(shape[2]) // frames for name, (_, shape) in maps.places.items()}
        chosen = self._default_layers(counts, size)
        finest = max((layer.grid for layer in chosen), key=lambda grid: grid[0] * grid[1])
        chosen = chosen[-1:] if last else chosen
        groups: dict[Size, list[Tensor]] = {}
        for layer in chosen:
            part = maps.of(layer.name)
            part = part[:, 0] if part.shape[1] == 1 else part.mean(dim=1, dtype=torch.float32)
            groups.setdefault(layer.grid, []).append(part)
        total: Tensor | None = None
        for grid, parts in groups.items():  # a few operations for each grid: on a GPU each is a kernel launch
            part = torch.stack(parts).sum(dim=0, dtype=torch.float32)
            part = part.unflatten(1, (frames, -1)).flatten(0, 1).transpose(1, 2).unflatten(2, grid)
            part = part if grid == finest else F.interpolate(part, finest, mode="bilinear", align_corners=False)
            total = part if total is None else total + part
        assert total is not None
        return total / len(chosen)


def _head_count(module: nn.Module) -> int:
    """Number of heads of an attention module; diffusers has two names for it."""
    attention: Any = module
    return int(attention.heads if hasattr(attention, "heads") else attention.num_heads)
