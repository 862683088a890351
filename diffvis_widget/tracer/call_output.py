"""What a pipeline call ended with: its final latents, the images decoded from them, and the images that it returned.

All three are taken from the call itself: from what its `__call__` returned, and from the last decode inside it. No
other decode is part of the call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffvis_widget.tracer.families import Family
from diffvis_widget.traces.types import Images

from .latent_layout import LatentLayout
from .preview import to_pixels

REPLACED = "the safety checker replaced the decoded image"
PASTED = "the pipeline pasted the decoded image into the original"
WATERMARKED = "the pipeline put a watermark on the decoded image"
CHANGED = "the pipeline changed the decoded image"
UNKNOWN_FORM = "the pipeline returned its images in a form that is not known here"


@dataclass(frozen=True)
class CallEnd:
    """What a pipeline call ended with.

    Attributes:
        latents: (images, C, h, w), or (images, C, F, h, w), on the CPU: the final latents; None: of the last step.
        images: uint8 (H, W, 3) for each image, (frames, H, W, 3) for each video; None where none was returned.
        decoded: uint8 (images, h, w, 3) or (videos, frames, h, w, 3), decoded from the final latents inside the call;
            None where nothing was.
        notes: For each image, why `images` and `decoded` differ; None where they do not.
        crop: (left, top, right, bottom) in pixels of the returned image: where the decoded image was pasted; or None.
    """

    latents: Tensor | None
    images: Sequence[Images] | None
    decoded: Images | None
    notes: Sequence[str | None]
    crop: tuple[int, int, int, int] | None = None


class Decodes:
    """The decodes of one call since its latest step. The pipeline's own come last: callbacks run before."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor]] = []

    def clear(self) -> None:
        """Forget all decodes."""
        self._parts = []

    def add(self, latents: Tensor, result: Any) -> None:
        """Add a decode.

        Args:
            latents: (n, C, h, w) or (n, C, 1, h, w), as the VAE received them.
            result: As the VAE returned it.
        """
        # copied on the device, without waiting: a safety checker writes into the images
        self._parts.append((latents.detach().clone(), result[0].detach().clone()))

    def last(self, images: int, frames: int = 1) -> tuple[Tensor, Images] | None:
        """Take the last decodes of as many images as the call makes.

        Args:
            images: Their number.
            frames: Of each video, where its frames are decoded as images.

        Returns:
            The latents as the VAE received them, and uint8 (images, H, W, 3) or (images, frames, H, W, 3); None where
            no decodes are of that number.
        """
        images *= frames
        parts: list[tuple[Tensor, Tensor]] = []
        for latents, decoded in reversed(self._parts):
            parts.insert(0, (latents, decoded))
            if sum(len(part) for part, _ in parts) >= images:
                break
        fits = sum(len(part) for part, _ in parts) == images and len({part.shape[1:] for _, part in parts}) == 1
        if not fits or not all(len(latents) == len(decoded) for latents, decoded in parts):
            return None
        pixels = torch.cat([decoded for _, decoded in parts])
        if pixels.ndim not in (4, 5) or pixels.shape[1] not in (3, 4):
            return None
        images_of_all = to_pixels(pixels)
        if frames > 1:
            images_of_all = images_of_all.reshape(-1, frames, *images_of_all.shape[1:])
        return torch.cat([latents for latents, _ in parts]), images_of_all


def read_call_end(
    pipe: Any,
    family: Family,
    layout: LatentLayout,
    last: Tensor,
    decodes: Decodes,
    output: Any,
    arguments: Mapping[str, Any],
) -> CallEnd:
    """Read what a call ended with that has returned.

    Args:
        pipe: The pipeline.
        family: The family of its denoiser.
        layout: Layout of the latents of the call.
        last: (images, C, h, w), the latents after the last step, as they were recorded.
        decodes: The decodes of the call.
        output: What the call returned.
        arguments: Its arguments by name.

    Returns:
        What the call ended with. Output in an unknown form counts as none.
    """
    vae, count = family.vae_of(pipe), len(last)
    value = _first(output)
    # a model that denoises pixels returns them as it denoises them, if it returns tensors
    if isinstance(value, Tensor) and (arguments.get("output_type") == "latent" or vae is None):
        latents = _returned_latents(family, vae, layout, value.detach(), last)
        return CallEnd(latents, None, None, [None] * count)
    final = decodes.last(count, _decoded_frames(family, last))
    latents = None if final is None else _decoded_latents(family, vae, final[0], last)
    decoded = None if final is None else final[1]
    images = returned_images(value, count) if last.ndim == 4 else returned_videos(value, count)
    if images is None:
        return CallEnd(latents, None, decoded, [UNKNOWN_FORM] * count)
    if decoded is None:
        return CallEnd(latents, images, None, [None] * count)
    replaced = _replaced(output, count)
    general = CHANGED
    if arguments.get("padding_mask_crop") is not None:
        general = PASTED
    elif any(getattr(pipe, name, None) is not None for name in ("watermark", "watermarker")):
        general = WATERMARKED
    notes = [
        None if _is_same_image(image, plain) else REPLACED if flag else general
        for image, plain, flag in zip(images, decoded, replaced, strict=True)
    ]
    crop = _crop(pipe, arguments, decoded) if general == PASTED else None
    return CallEnd(latents, images, decoded, notes, crop)


def read_failed_call_end(
    pipe: Any, family: Family, last: Tensor, decodes: Decodes, error: BaseException | None
) -> CallEnd:
    """Read what a call ended with that has raised an exception.

    Args:
        pipe: The pipeline.
        family: The family of its denoiser.
        last: (images, C, h, w), the latents after the latest step.
        decodes: The decodes of the call.
        error: The exception, where the call had made all its steps.

    Returns:
        What the call ended with: the images, if the latents after the latest step were decoded.
    """
    note = None if error is None else f"the pipeline returned no image: it raised {type(error).__name__}"
    final = decodes.last(len(last), _decoded_frames(family, last))
    is_last = final is not None and _decoded_latents(family, family.vae_of(pipe), final[0], last) is None
    return CallEnd(None, None, final[1] if is_last and final is not None else None, [note] * len(last))


def _decoded_frames(family: Family, last: Tensor) -> int:
    """How many images each row of the final latents is decoded as."""
    return last.shape[2] if family.frames_in_batch and last.ndim == 5 else 1


def _first(output: Any) -> Any:
    """The images in the output of a pipeline: a dataclass of diffusers, a tuple, or the images alone."""
    for name in ("images", "frames", "image"):
        if (images := getattr(output, name, None)) is not None:
            return images
    if isinstance(output, Mapping):
        return next(iter(cast("Mapping[Any, Any]", output).values()), None)
    if isinstance(output, tuple):
        return next(iter(cast("tuple[Any, ...]", output)), None)
    return output


# -- latents -----------------------------------------------------------------------------------------------------------


def _returned_latents(family: Family, vae: Any, layout: LatentLayout, latents: Tensor, last: Tensor) -> Tensor | None:
    """The latents that a pipeline returned, on the scale of its loop; None for those of the last step."""
    try:
        returned = layout.unpacked(latents).float().cpu()
    except RuntimeError:  # packed in a way of its own
        return None
    if returned.shape == last.shape:
        # LTX-2 returns them as its autoencoder takes them
        is_last = torch.equal(returned, last.float()) or (
            last.ndim == 5 and vae is not None and _decoded_latents(family, vae, latents, last) is None
        )
        return None if is_last else returned
    return None if vae is None else _decoded_latents(family, vae, latents, last)


def _decoded_latents(family: Family, vae: Any, scaled: Tensor, last: Tensor) -> Tensor | None:
    """The latents that a VAE received, on the scale of the loop; None for those of the last step.

    Args:
        family: The family.
        vae: The VAE.
        scaled: As the VAE received them.
        last: (images, C, h, w), the latents after the last step.
    """
    last = last.to(scaled.device, scaled.dtype)
    expected = family.scale_for_vae(vae, last)
    if expected.numel() != scaled.numel():
        return None
    scaled = scaled.reshape(expected.shape)
    offset = family.scale_for_vae(vae, torch.zeros_like(last)).float()
    # pipelines scale in another order of operations: what rounding explains is no change
    rounding = torch.finfo(scaled.dtype).eps * (expected.float().abs() + offset.abs())
    # StableDiffusion3InpaintPipeline leaves the shift out; its last blend keeps many numbers, which show that
    candidates = [scaled.float(), scaled.float() + offset]
    unchanged = [int(((part - expected.float()).abs() <= rounding).sum()) for part in candidates]
    if max(unchanged) == expected.numel():
        return None
    scaled = candidates[int(np.argmax(unchanged))]
    return unscale_from_vae(family, vae, scaled, tuple(last.shape[1:]))


def unscale_from_vae(family: Family, vae: Any, scaled: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `Family.scale_for_vae`, for every family that scales, shifts and rearranges.

    Args:
        family: The family.
        vae: The VAE.
        scaled: (n, ...), as the VAE takes them.
        shape: (C, h, w) or (C, F, h, w) of the latents of the loop.

    Returns:
        float32 (n, C, h, w), on the CPU.
    """

    def scale(latents: Tensor) -> Tensor:
        return family.scale_for_vae(vae, latents.reshape(1, *shape)).cpu().flatten()

    zero = torch.zeros(shape, dtype=torch.float64)
    offset = scale(zero)
    slope = scale(zero + 1) - offset
    # where each number of the loop's latents went
    places = ((scale(torch.arange(zero.numel(), dtype=torch.float64)) - offset) / slope).round().long()
    rows = scaled.detach().to("cpu", torch.float64).reshape(-1, zero.numel())  # frames may be rows of their own
    latents = torch.empty_like(rows)
    latents[:, places] = (rows - offset) / slope
    return latents.reshape(-1, *shape).float()


# -- images ------------------------------------------------------------------------------------------------------------


def returned_images(value: Any, count: int) -> list[Images] | None:
    """Convert the images that a pipeline returned to pixels, as diffusers does for output_type="pil".

    Args:
        value: Images of PIL, an array (n, H, W, C) in 0..1, or a tensor (n, C, H, W) in 0..1 or -1..1.
        count: Number of images that the call made.

    Returns:
        uint8 (H, W, 3) for each image; None for another number of images, or another form.
    """
    if isinstance(value, Tensor | np.ndarray):
        rows: list[Any] = [value] if count == 1 and value.ndim == 3 else list(cast("Any", value))
    else:
        rows = list(cast("Sequence[Any]", value)) if isinstance(value, list | tuple) else [value]
    images = [image for row in rows if (image := _pixels(row)) is not None]
    return images if len(images) == len(rows) == count else None


def returned_videos(value: Any, count: int) -> list[Images] | None:
    """Convert the videos that a pipeline returned to pixels.

    Args:
        value: For each video a list of images of PIL, or an array (n, frames, H, W, C) in 0..1, or a tensor (n, frames,
            C, H, W) in 0..1 or -1..1.
        count: Number of videos that the call made.

    Returns:
        uint8 (frames, H, W, 3) for each video; None for another number of videos, or another form.
    """
    if isinstance(value, Tensor | np.ndarray):
        rows: list[Any] = list(cast("Any", value)) if value.ndim == 5 else [value]
    else:
        rows = list(cast("Sequence[Any]", value)) if isinstance(value, list | tuple) else [value]
        rows = [rows] if count == 1 and rows and isinstance(rows[0], Image.Image) else rows
    videos: list[Images] = []
    for row in rows:
        frames = None if isinstance(row, Image.Image) else returned_images(row, len(row))
        if not frames or len({frame.shape for frame in frames}) > 1:
            return None
        videos.append(np.stack(frames))
    return videos if len(videos) == count else None


def _pixels(row: Any) -> Images | None:
    if isinstance(row, Image.Image):
        return np.array(row.convert("RGB"))
    if isinstance(row, Tensor):
        row = row.detach().float().cpu()
        if row.numel() and float(row.min()) < 0:  # Kandinsky returns tensors as they were decoded, in -1..1
            row = row * 0.5 + 0.5
        row = row.numpy()
        row = np.moveaxis(row, 0, -1) if row.ndim == 3 else row
    if not isinstance(row, np.ndarray) or row.ndim not in (2, 3) or 0 in row.shape:
        return None
    array = np.atleast_3d(cast("np.ndarray[Any, Any]", row))
    if array.shape[2] not in (1, 3, 4):
        return None
    array = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[:, :, :3]
    if array.dtype == np.uint8:
        return array.copy()
    if not np.issubdtype(array.dtype, np.floating):
        return None
    return np.round(np.clip(np.nan_to_num(array), 0, 1) * 255).astype(np.uint8)


def _is_same_image(image: Images, decoded: Images) -> bool:
    """Whether two images are equal up to rounding."""
    return image.shape == decoded.shape and int(np.abs(image.astype(np.int16) - decoded).max()) <= 1


def _replaced(output: Any, count: int) -> list[bool]:
    """Which images a safety checker replaced."""
    flags = next(
        (
            flags
            for name in ("nsfw_content_detected", "nsfw_detected")
            if (flags := getattr(output, name, None)) is not None
        ),
        None,
    )
    if flags is None and isinstance(output, tuple):
        flags = next(iter(cast("tuple[Any, ...]", output)[1:]), None)
    if isinstance(flags, Tensor | np.ndarray):
        flags = flags.tolist()
    flags = cast("list[Any]", flags) if isinstance(flags, list) else []
    return [flag is True for flag in flags] if len(flags) == count else [False] * count


def _crop(pipe: Any, arguments: Mapping[str, Any], decoded: Images) -> tuple[int, int, int, int] | None:
    """Where an inpainting pipeline pastes what it decoded, as its own mask processor computes it."""
    find = getattr(getattr(pipe, "mask_processor", None), "get_crop_region", None)
    mask, pad = arguments.get("mask_image"), arguments.get("padding_mask_crop")
    if find is None or not isinstance(mask, Image.Image):
        return None
    left, top, right, bottom = find(mask, decoded.shape[2], decoded.shape[1], pad=pad)
    return int(left), int(top), int(right), int(bottom)
