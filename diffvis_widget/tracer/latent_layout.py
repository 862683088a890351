"""How the loop of a pipeline stores its latents, and where image tokens lie in its denoiser's attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diffvis_widget.tracer.families import Family
from diffvis_widget.tracer.families.video_frames import VideoFrames
from diffvis_widget.traces.types import Size

from .argument_names import arguments_by_name
from .attention_calls import CallLayout, ImageQueries
from .fault_guard import CannotRecordError
from .model_outputs import first_entry
from .own_unpacking import find_unpacking
from .packing import unpack, unpack_video
from .video_calls import check_latent_frames


class LatentLayout:
    """Layout of the latents of one pipeline call, available once the pipeline has prepared them.

    Args:
        family: The model family.

    Attributes:
        images: Number of images of the call; None for a pipeline that does not call `prepare_latents`.
        size: (h, w) of the latents; None before `read`.
        frames: Number of latent frames of a video; 1 for an image.
        encoded: What the autoencoder encoded in the call, such as reference images.
    """

    images: int | None
    size: Size | None
    frames: int
    encoded: list[Tensor]

    def __init__(self, family: Family) -> None:
        self.images = None
        self.frames = 1
        self.encoded = []
        self._family = family
        self._extra = VideoFrames()
        self._positions: int | None = None
        self._unpacking: Callable[[Tensor], Tensor] | None = None
        self.size = None

    def forget(self) -> None:
        """Another call begins."""
        self.images = self.size = self._positions = self._unpacking = None
        self.frames = 1
        self.encoded = []
        self._extra = VideoFrames()

    def read(self, prepared: Any, arguments: Mapping[str, Any], pipe: Any, call: Mapping[str, Any]) -> None:
        """Read the layout from the initial latents.

        Args:
            prepared: From `prepare_latents`; the latents are its first entry: (n, C, h, w), (n, C, frames, h, w) or
                packed (n, positions, channels).
            arguments: Arguments of that call.
            pipe: The pipeline.
            call: Arguments of the pipeline's `__call__`; empty outside of it.

        Raises:
            CannotRecordError: The number of packed rows does not fit the size of the image.
            VideoError: The latents have several frames, and videos of this family are not traced.
        """
        latents: Tensor = first_entry(prepared)
        if (form := self._family.latent_form) is not None:
            self.size = form.size(pipe, arguments, latents)
        latents = self._image(latents)
        self._extra = self._family.video_frames(pipe, prepared, arguments, call)
        latents = latents if self._extra.prepared_channels_first else self._channels_first(latents)
        if not self._family.traces_videos:
            check_latent_frames(latents)
        self.images = len(latents)
        self.frames = latents.shape[2] - self._extra.padding if latents.ndim == 5 else 1
        side = self._family.packing
        if latents.ndim == 3 and side is not None:
            self.size = height, width = self._family.packed_size(pipe, arguments, side)
            self._positions = latents[:, self._extra.tokens].shape[1]
            if self._family.traces_videos:
                self.frames = max(1, self._positions * side**2 // (height * width))
            if height * width * self.frames != self._positions * side**2:
                raise CannotRecordError(
                    f"packed latents have {self._positions} rows of {side} x {side}, which do not fill "
                    f"{height} x {width} latent pixels"
                )
        elif latents.ndim == 3:
            self._unpacking = find_unpacking(latents, arguments, pipe)
            image = self._unpacking(latents)
            self.size = (image.shape[-2], image.shape[-1])
        else:
            self.size = (latents.shape[-2], latents.shape[-1])
            patch_size = self._family.patch_size
            layers = -(-self.frames // self._family.frames_per_token)
            self._positions = layers * (self.size[0] // patch_size) * (self.size[1] // patch_size)

    def read_input(self, latents: Any) -> None:
        """Read the layout from what the denoiser is given by a pipeline that does not call `prepare_latents`.

        Args:
            latents: The first argument of the denoiser. Only (rows of the batch, C, h, w) shows the layout.
        """
        if isinstance(latents, Tensor) and latents.ndim == 4:
            self.size = (latents.shape[-2], latents.shape[-1])
            self._positions = (self.size[0] // self._family.patch_size) * (self.size[1] // self._family.patch_size)

    def read_step(self, latents: Tensor, arguments: Mapping[str, Any], pipe: Any) -> None:
        """Read the layout from the first step of a pipeline that does not call `prepare_latents`.

        Args:
            latents: As the scheduler receives them.
            arguments: Arguments of the pipeline call.
            pipe: The pipeline.

        Raises:
            CannotRecordError: The latents are packed, and the size of the image is not known.
        """
        if self.size is not None:
            return
        sizes = {name: arguments.get(name) or getattr(pipe, f"default_{name}", None) for name in ("height", "width")}
        if latents.ndim == 3 and None in sizes.values():
            raise CannotRecordError("its latents are packed, and no height and width say how; pass both to the call")
        self.read(latents, {**arguments, **sizes}, pipe, arguments)

    def call_layout(self, arguments: Mapping[str, Any]) -> CallLayout | None:
        """Locate text and image tokens in the sequence of joint attention.

        Args:
            arguments: Arguments of the denoiser by name.

        Returns:
            The layout; None for cross-attention, or before `read`.
        """
        layout, positions = self._family.sequence_layout, self._positions
        if layout is None or positions is None:
            return None
        if self._family.row_layouts is None:
            return lambda keys, text, _: layout(keys, text, positions)
        layouts = self._family.row_layouts(arguments)
        return lambda keys, text, row: layouts[row](keys, text, positions)

    def places(
        self, forward: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[CallLayout | None, ImageQueries, int, tuple[int, Size] | None]:
        """Locate what an `AttentionReader` reads.

        Args:
            forward: The method of the denoiser.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Returns:
            `call_layout`, `image_queries`, `row_frames` and `token_frames`.
        """
        by_row = self._family.row_layouts is not None  # no other layout depends on the arguments
        layout = self.call_layout(arguments_by_name(forward, args, kwargs) if by_row else {})
        return layout, self.image_queries, self.row_frames, self.token_frames

    @property
    def token_frames(self) -> tuple[int, Size] | None:
        """How many frames of tokens a row of the batch holds, and the (h, w) of each; None for images in rows."""
        if self.frames == 1 or self._family.frames_in_batch or self.size is None or self._positions is None:
            return None
        grid = self._family.grid(self._positions, self.size, self.frames)
        return None if grid is None else (-(-self.frames // self._family.frames_per_token), grid)

    @property
    def row_frames(self) -> int:
        """Rows of the batch in the denoiser's attention for each row that the denoiser is given."""
        return self.frames if self._family.frames_in_batch else 1

    def text_of_videos(self, text: Any) -> Any:
        """Take the text of each video once.

        Args:
            text: The text embeddings that the denoiser receives.

        Returns:
            One row for each row of latents.
        """
        return text[:: self.frames] if self._family.text_by_frame and self.frames > 1 else text

    def text_of_frames(self, text: Any) -> Any:
        """Undo `text_of_videos`.

        Args:
            text: One row of text embeddings for each row of latents.

        Returns:
            The text embeddings that the denoiser receives.
        """
        return text.repeat_interleave(self.frames, dim=0) if self._family.text_by_frame and self.frames > 1 else text

    def image_queries(self, queries: int) -> slice | Tensor:
        """Find the image tokens among the queries of cross-attention.

        Args:
            queries: Number of queries.

        Returns:
            Their places.
        """
        wide = self.input_size if self._family.side_by_side else None
        grid = None if wide is None else self._family.grid_of(queries, wide, self._family.patch_size)
        if grid is None:
            return self._extra.tokens
        return torch.arange(queries).view(grid)[:, : grid[1] // 2].flatten()

    @property
    def input_size(self) -> Size | None:
        """(h, w) of what the denoiser is given; None before `read`."""
        if self.size is None or not self._family.side_by_side:
            return self.size
        return self.size[0], 2 * self.size[1]

    def completed(self, latents: Tensor, of_flow: bool = False) -> Tensor:
        """Bring latents of a step into image shape, with the frames that are given in their places.

        Args:
            latents: As for `unpacked`, with or without the given frames.
            of_flow: Whether these are predicted flow, which is zero in clean frames.

        Returns:
            As `unpacked`.
        """
        latents, clean = self.unpacked(latents), self._extra.clean_frames
        if clean is None or latents.ndim != 5:
            return latents
        clean = clean.detach().to(latents)
        if len(clean) != len(latents):
            clean = clean.expand(len(latents), *clean.shape[1:])
        denoised = latents[:, :, latents.shape[2] - (self.frames - clean.shape[2]) :]
        return torch.cat([torch.zeros_like(clean) if of_flow else clean, denoised], dim=2)

    def unpacked(self, latents: Tensor) -> Tensor:
        """Bring latents of the pipeline's loop into image shape.

        Args:
            latents: (n, C, h, w), (n, C, frames, h, w), (n * frames, C, h, w) or packed (n, positions, channels).

        Returns:
            (n, C, h, w); of a video of several frames, (n, C, frames, h, w).
        """
        if latents.ndim == 4 and self.row_frames > 1:
            return latents.unflatten(0, (-1, self.frames)).transpose(1, 2)
        latents = self._image(latents)
        if latents.ndim == 5:
            # frames of conditions may stand before those of the video, or behind them; a step may leave out all but one
            latents = self._channels_first(latents)[:, :, self._extra.padding :][:, :, : self.frames]
            return latents[:, :, 0] if self.frames == latents.shape[2] == 1 else latents
        if self._unpacking is not None and latents.ndim == 3:
            return self._unpacking(latents)
        side = self._family.packing
        if latents.ndim == 3 and side is not None and self.size is not None:
            # an editing model's sequence continues with its reference image
            latents = self._family.image_output(latents[:, self._extra.tokens], self._positions or 0)
            return unpack(latents, self.size, side) if self.frames == 1 else unpack_video(latents, self.size, side)
        return latents

    def _image(self, latents: Tensor) -> Tensor:
        if self._family.side_by_side and self.size is not None:
            return latents[..., : self.size[1]]
        form = self._family.latent_form
        return latents if form is None or self.size is None else form.image(latents, self.size)

    def _channels_first(self, latents: Tensor) -> Tensor:
        """(n, C, F, h, w), as traces keep the latents of videos."""
        if latents.ndim == 5 and self._family.channels_last:
            return latents.permute(0, 4, 1, 2, 3)
        return latents.transpose(1, 2) if latents.ndim == 5 and self._family.frames_first else latents
