"""How a pipeline's loop keeps its latents, and on how many image positions its denoiser works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from diffvis_widget.tracer.families import Family

from .attention import CallLayout
from .packing import unpack


class Geometry:
    """Of one pipeline call, known once its latents are prepared: before the denoiser has seen them.

    images: how many are made; None for a pipeline that prepares its latents in a way of its own.
    """

    def __init__(self, family: Family) -> None:
        self.images: int | None = None
        self._family = family
        self._cells: int | None = None
        self._size: tuple[int, int] | None = None

    def note(self, latents: Tensor, asked: Mapping[str, Any], pipe: Any) -> None:
        """latents: as `prepare_latents` returned them. asked: its arguments."""
        self.images = len(latents)
        side = self._family.packing
        if latents.ndim == 3 and side is not None:
            self._size = height, width = self._family.packed_size(pipe, asked, side)
            self._cells = latents.shape[1]
            if height * width != self._cells * side**2:
                raise RuntimeError(f"{self._cells} rows of latents do not make an image of {height} x {width} latents")
        else:
            self._size = (latents.shape[-2], latents.shape[-1])
            self._cells = (self._size[0] // self._family.patch_size) * (self._size[1] // self._family.patch_size)

    def layout(self) -> CallLayout | None:
        """Where text and image lie in the keys of this call's joint attention."""
        place, cells = self._family.sequence_layout, self._cells
        if place is None or cells is None:
            return None
        return lambda keys, text: place(keys, text, cells)

    def square(self, latents: Tensor) -> Tensor:
        """Latents (n, C, h, w), however the pipeline's loop keeps them."""
        if latents.ndim == 5:
            return latents[:, :, 0]  # a video of one frame
        side = self._family.packing
        if latents.ndim == 3 and side is not None and self._size is not None:
            # an editing model's output goes on with the picture it looks at
            return unpack(latents[:, : self._cells], self._size, side)
        return latents
