"""Encodes images with the scenes CLIP in less time than open_clip, for the meter that scores the steps of a live run.

The results are those of open_clip within the rounding of float32: batch norms are folded into the convolutions before
them, which then run on channels-last images.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn


def folded(visual: nn.Module) -> nn.Module:
    """Copy a convolutional image encoder, with each batch norm folded into its convolution.

    Args:
        visual: `open_clip.model.CLIP.visual` of a ResNet, in evaluation mode. It stays as it is.

    Returns:
        The copy, in channels-last memory format, without gradients.

    Raises:
        ValueError: a batch norm follows no convolution.
    """
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    network = copy.deepcopy(visual).requires_grad_(False)
    for module in list(network.modules()):
        for convolution, norm in _normalized_convolutions(module):
            setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm)))
            setattr(module, norm, torch.nn.Identity())
    left = [name for name, module in network.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
    if left:
        raise ValueError(f"visual must be a ResNet of open_clip; no convolution precedes {left}")
    return network.to(memory_format=torch.channels_last).requires_grad_(False)


def _normalized_convolutions(module: nn.Module) -> list[tuple[str, str]]:
    """Names of a module's convolutions and their batch norms: conv1 and bn1, or neighbours in a sequence."""
    import torch

    children = dict(module.named_children())
    pairs = [(name, name.replace("conv", "bn")) for name in children if name.startswith("conv")]
    if isinstance(module, torch.nn.Sequential):
        pairs = list(zip(children, list(children)[1:], strict=False))
    return [
        (convolution, norm)
        for convolution, norm in pairs
        if isinstance(children[convolution], torch.nn.Conv2d) and isinstance(children.get(norm), torch.nn.BatchNorm2d)
    ]


class ImagePreparation:
    """Turns images of the encoder's own size into its input, to the bit as open_clip's transforms do.

    Args:
        other_sizes: prepares images of another size: uint8 (T, H, W, 3) to float32 (T, 3, size, size).
        size: height and width of the encoder's input, in pixels.
        mean: of each channel, in 0..1.
        std: of each channel.
    """

    def __init__(
        self, other_sizes: Callable[[NDArray[np.uint8]], Tensor], size: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        import torch

        self._other_sizes, self._size = other_sizes, size
        self._mean, self._std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std))

    def __call__(self, frames: NDArray[np.uint8]) -> Tensor:
        """Prepare images.

        Args:
            frames: uint8 (T, H, W, 3), sRGB.

        Returns:
            float32 (T, 3, size, size), in channels-last memory format.
        """
        import torch

        if frames.shape[1:3] != (self._size, self._size):
            return self._other_sizes(frames).contiguous(memory_format=torch.channels_last)
        pixels = torch.from_numpy(np.array(frames)).permute(0, 3, 1, 2)
        return pixels.to(torch.float32).div_(255).sub_(self._mean).div_(self._std)
