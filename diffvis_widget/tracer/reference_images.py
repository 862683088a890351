"""The reference images of an editing model: where their tokens are, and what the autoencoder saw of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from diffvis_widget.tracer.families import Family
from diffvis_widget.traces import Layer
from diffvis_widget.traces.types import Images, Size

from .denoiser_inputs import LiveCall
from .preview import to_pixels

MOST_ENCODES = 16  # images of one call that are noted


def noting_encodes(encoded: Callable[[], list[Tensor]], passes: Callable[[], bool]) -> Callable[..., Any]:
    """Make a watcher of an autoencoder's `encode` that notes the images.

    Args:
        encoded: Returns the list to which images are appended.
        passes: Returns whether a call is none of a followed pipeline's.

    Returns:
        The watcher.
    """

    def note(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        image = args[0] if args else kwargs.get("x")
        if isinstance(image, Tensor) and not passes() and len(encoded()) < MOST_ENCODES:
            encoded().append(image.detach())
        return result

    return note


def reference_grids(family: Family, live: LiveCall, layers: Sequence[Layer], image: int) -> list[tuple[Size, ...]]:
    """Find the grids of the reference images among the keys of attention.

    Args:
        family: The family of the denoiser.
        live: The call, with its first step.
        layers: The layers.
        image: Index of the image in the call.

    Returns:
        By layer, (h, w) of the tokens of each reference image.
    """
    for evaluation in live.steps[0].evaluations if live.steps and layers else ():
        if (rows := evaluation.branches.get("prompt")) is None:
            continue
        row = rows.start + image
        if family.side_by_side:  # without a reference, the other image is empty
            is_there = evaluation.extra is not None and bool(evaluation.extra[row].any())
            return [(layer.grid,) if is_there else () for layer in layers]
        latents: Any = torch.empty(evaluation.shape, device="meta")  # the shape alone
        if evaluation.listed:
            latents = evaluation.listing([latents] * evaluation.batch, range(evaluation.batch))
        arguments = {**evaluation.arguments, evaluation.latents: latents}
        return [tuple(family.reference_grids(arguments, row, math.prod(layers[0].grid)))] * len(layers)
    return [()] * len(layers)


def encoded_references(family: Family, live: LiveCall, encoded: Sequence[Tensor], image: int) -> Sequence[Tensor]:
    """Select the images that may be references of an image.

    Args:
        family: The family of the denoiser.
        live: The call, with its first step.
        encoded: What the autoencoder encoded in the call, in order.
        image: Index of the image in the call.

    Returns:
        Some of the encoded images.
    """
    if family.encoded_references is None or not live.steps:
        return encoded
    evaluation = live.steps[0].evaluations[0]
    row = evaluation.branches["prompt"].start + image
    return encoded[family.encoded_references(evaluation.arguments, row)]


def match_references(grids: Sequence[Size], encoded: Sequence[Tensor], image: int) -> list[Images]:
    """Find the reference images among the images that the autoencoder encoded.

    Args:
        grids: (h, w) of the tokens of each reference image.
        encoded: What was encoded in the call, in order, (n, 3, H, W) or (n, 3, 1, H, W), from -1 to 1.
        image: Index of the image in the call.

    Returns:
        uint8 (H, W, 3) of each reference image; empty where the encoded images do not fit the grids.
    """
    images: list[Images] = []
    rest = [part for index, part in enumerate(encoded) if not any(_is_masked(part, other) for other in encoded[:index])]
    for height, width in reversed(grids):  # the image to begin from is encoded before the references
        while rest:
            part = rest.pop()
            if part.ndim == 5 and part.shape[2] == 1:
                part = part[:, :, 0]
            if part.ndim != 4 or part.shape[1] < 3:
                continue
            rows, columns = int(part.shape[2]), int(part.shape[3])
            if rows % height == 0 and columns % width == 0 and rows // height == columns // width:
                images.insert(0, to_pixels(part[image % len(part)][None, :3])[0])
                break
    return images if len(images) == len(grids) else []


def _is_masked(image: Tensor, other: Tensor) -> bool:
    """Whether an image is another one under a mask, which an inpainting model encodes too."""
    if image is other or image.shape != other.shape or image.device != other.device:
        return False
    same = image == other
    return not bool(same.all()) and bool((same | (image == 0)).all())
