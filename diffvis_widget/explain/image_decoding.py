"""Decoding of many latents in small batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffvis_widget.traces import Trace


def decode_images(trace: Trace, latents: Tensor) -> NDArray[np.uint8]:
    """Decode latents to images.

    Args:
        trace: The run, whose VAE decodes.
        latents: (n, C, h, w), scaled as the VAE expects them.

    Returns:
        uint8 (n, H, W, 3).
    """
    array: NDArray[Any] = latents.float().cpu().numpy()
    # a VAE needs much more memory than a denoiser
    size = max(1, 2**14 // (array.shape[-2] * array.shape[-1]))
    return np.concatenate([trace.decode(array[start : start + size]) for start in range(0, len(array), size)])
