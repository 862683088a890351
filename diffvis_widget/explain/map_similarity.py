"""Local similarity of two sets of latent maps: the three terms of SSIM, SSIM itself, and the cosine over channels.

SSIM: Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error visibility to
structural similarity", IEEE Transactions on Image Processing 13 (2004) 600, Eq. 6-13; as used by DF-RISE in
arXiv 2402.10404 (Eq. 3-8).
"""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from diffvis_widget.arguments import choice

Kind = Literal["structure", "contrast", "luminance", "ssim", "cosine"]
KINDS = ("structure", "contrast", "luminance", "ssim", "cosine")
WINDOW, SIGMA = 15, 1.5
C1, C2 = 0.01**2, 0.03**2
C3 = C2 / 2


@overload
def similarity(a: Tensor, b: Tensor, kind: Kind = "structure") -> Tensor: ...
@overload
def similarity(a: NDArray[Any], b: NDArray[Any], kind: Kind = "structure") -> NDArray[np.float32]: ...
def similarity(
    a: Tensor | NDArray[Any], b: Tensor | NDArray[Any], kind: Kind = "structure"
) -> Tensor | NDArray[np.float32]:
    """Compute the local similarity of two sets of maps around each pixel.

    The terms of SSIM are computed per channel, then averaged over the channels. Means and variances are local: Gaussian
    window of 15 x 15, sigma 1.5, reflected at the border; the window shrinks to fit a smaller grid. L = 1: C1 = 0.01^2,
    C2 = 0.03^2, C3 = C2 / 2.

    Args:
        a: Maps (n, C, h, w), an array or a tensor.
        b: Maps of the same shape; n may be 1 in either.
        kind: "structure" (sigma_ab + C3) / (sigma_a sigma_b + C3), -1..1; "contrast" (2 sigma_a sigma_b + C2) /
            (sigma_a^2 + sigma_b^2 + C2), 0..1; "luminance" (2 mu_a mu_b + C1) / (mu_a^2 + mu_b^2 + C1), -1..1; "ssim",
            their product; "cosine" of the C values at each pixel, -1..1, 0 where either vector is zero.

    Returns:
        float32 (n, h, w), of the type of `a`.

    Raises:
        ValueError: If the kind is unknown or the shapes do not match.

    Example:
        >>> import numpy as np
        >>> maps = np.random.default_rng(0).random((2, 4, 8, 8))
        >>> dv.explain.similarity(maps, maps).shape
        (2, 8, 8)
    """
    choice("kind", kind, KINDS)
    first, second = (part if isinstance(part, Tensor) else torch.from_numpy(np.asarray(part)) for part in (a, b))
    rows = {part.shape[0] for part in (first, second) if part.ndim == 4}
    if not rows or first.shape[1:] != second.shape[1:] or len(rows - {1}) > 1:
        raise ValueError(f"a and b must both be (n, C, h, w), not {tuple(first.shape)} and {tuple(second.shape)}")
    result = _cosine(first, second) if kind == "cosine" else _ssim_term(first.float(), second.float(), kind)
    return result if isinstance(a, Tensor) else result.numpy()


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.float(), b.float()
    lengths = (a.square().sum(dim=1) * b.square().sum(dim=1)).sqrt()
    return torch.where(lengths > 0, (a * b).sum(dim=1) / lengths.clamp_min(1e-30), 0.0)


def _ssim_term(a: Tensor, b: Tensor, kind: str) -> Tensor:
    mean_a, mean_b = blur(a), blur(b)
    # a variance can come out slightly negative in floating point
    spread_a = (blur(a * a) - mean_a * mean_a).clamp_min(0).sqrt()
    spread_b = (blur(b * b) - mean_b * mean_b).clamp_min(0).sqrt()
    term = torch.ones_like(mean_a * mean_b)
    if kind in ("luminance", "ssim"):
        term = term * (2 * mean_a * mean_b + C1) / (mean_a * mean_a + mean_b * mean_b + C1)
    if kind in ("contrast", "ssim"):
        term = term * (2 * spread_a * spread_b + C2) / (spread_a * spread_a + spread_b * spread_b + C2)
    if kind in ("structure", "ssim"):
        both = blur(a * b) - mean_a * mean_b
        term = term * (both + C3) / (spread_a * spread_b + C3)
    return term.mean(dim=1)


def blur(maps: Tensor, window: int = WINDOW, sigma: float = SIGMA) -> Tensor:
    """Average maps with a Gaussian window, reflected at the border; the window shrinks to fit a smaller grid.

    Args:
        maps: (n, C, h, w).
        window: Side of the window, odd.
        sigma: Standard deviation in pixels.

    Returns:
        (n, C, h, w).
    """
    channels, (height, width) = maps.shape[1], maps.shape[2:]
    rows, columns = (_gaussian(_fitting(window, size), sigma).to(maps) for size in (height, width))
    edge = (len(columns) // 2,) * 2 + (len(rows) // 2,) * 2
    padded = F.pad(maps, edge, mode="reflect")
    down = F.conv2d(padded, rows.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)
    return F.conv2d(down, columns.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)


def _fitting(window: int, size: int) -> int:
    """The largest odd window, up to `window`, that is no wider than the grid."""
    return min(window, size if size % 2 else size - 1)


def _gaussian(window: int, sigma: float) -> Tensor:
    offsets = torch.arange(window, dtype=torch.float64) - window // 2
    weights = torch.exp(-offsets.square() / (2 * sigma * sigma))
    return weights / weights.sum()
