"""Locates the image tokens in the outputs of the denoiser's blocks, for DF-CAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from diffvis_widget.tracer import Family
from diffvis_widget.tracer.families.sequence_layouts import SequenceLayout
from diffvis_widget.traces.types import Size


@dataclass(frozen=True)
class ImageStream:
    """Locates the image in the output of a block.

    Attributes:
        family: The model family.
        size: (h, w) of the latents.
        joined: Number of tokens of a reference image that follow the image's own (editing models).
        layout: Where text and image lie in a sequence that holds both; None where no block returns one.
    """

    family: Family
    size: Size
    joined: int
    layout: SequenceLayout | None

    @property
    def _grid(self) -> Size:
        return self.size[0] // self.family.patch_size, self.size[1] // self.family.patch_size

    def pick(self, output: Any) -> Tensor:
        """Find the tensor that holds the image.

        Args:
            output: Output of a block, a tensor or a sequence.

        Returns:
            (rows, K, u, v), or (rows, tokens, K), with or without the text tokens.

        Raises:
            ValueError: If no tensor of the output has the image's size.
        """
        parts = [output] if isinstance(output, Tensor) else [part for part in output if isinstance(part, Tensor)]
        cells = self._grid[0] * self._grid[1]
        alone = [part for part in parts if part.ndim == 4 or (part.ndim == 3 and part.shape[1] == cells + self.joined)]
        both = [part for part in parts if part.ndim == 3 and part.shape[1] > cells + self.joined]
        if alone:  # a text of the same length: the family states which comes first
            return alone[0] if self.family.image_comes_first else alone[-1]
        if both and self.layout is not None:
            return both[0]
        shapes = ", ".join(str(tuple(part.shape)) for part in parts)
        raise ValueError(f"a block of this denoiser returns {shapes}: no image of {self._grid[0]} x {self._grid[1]}")

    def lay(self, stream: Tensor) -> Tensor:
        """Arrange a tensor from `pick`, or its gradient, on the image grid.

        Args:
            stream: The tensor.

        Returns:
            float32 (rows, K, u, v).
        """
        if stream.ndim == 4:
            return stream.float()
        cells, positions = self._grid[0] * self._grid[1], stream.shape[1]
        start = 0
        if positions > cells + self.joined:
            assert self.layout is not None
            place = self.layout(positions, positions - cells - self.joined, cells)
            start = place[1].start if place else 0
        return stream[:, start : start + cells].float().mT.unflatten(2, self._grid)
