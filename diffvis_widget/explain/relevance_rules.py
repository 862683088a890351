"""The rules that propagate relevance through attention layers.

H. Chefer, S. Gur, L. Wolf, "Generic attention-model explainability for interpreting bi-modal and encoder-decoder
transformers", ICCV 2021, arXiv 2103.15679, Eq. 5-11; on diffusion models: arXiv 2402.10404. Matrices are float32
tensors; n image tokens, L text tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diffvis_widget.traces.types import Size


def normalised(relevance: Tensor) -> Tensor:
    """Normalise the rows of R - I to sum 1, and add I again; a row of zeros stays zero (Eq. 8-9).

    Args:
        relevance: R, (n, n).

    Returns:
        (n, n).
    """
    identity = torch.eye(len(relevance), dtype=relevance.dtype, device=relevance.device)
    added = relevance - identity
    sums = added.sum(dim=1, keepdim=True)
    return torch.where(sums > 0, added / sums.clamp_min(1e-30), 0.0) + identity


def self_attention(cams: list[Tensor]) -> Tensor:
    """Propagate relevance through a stack of self-attention layers, starting from I: R += cam R for each (Eq. 6).

    Args:
        cams: One (L, L) a layer, in order; 1 or more.

    Returns:
        R, (L, L).
    """
    relevance = torch.eye(len(cams[0]), dtype=torch.float32, device=cams[0].device)
    for cam in cams:
        relevance = relevance + cam @ relevance
    return relevance


class ImageText:
    """R_ii (n, n) of image on image, starting from I, and R_iq (n, L) of image on text, starting from 0.

    Args:
        grid: (h, w) of the image tokens, n = h * w.
        text: R_qq, (L, L).
    """

    def __init__(self, grid: Size, text: Tensor) -> None:
        self.grid = grid
        self._text = normalised(text)
        cells = grid[0] * grid[1]
        self.on_image = torch.eye(cells, dtype=torch.float32, device=text.device)
        self.on_text = torch.zeros(cells, len(text), dtype=torch.float32, device=text.device)

    def self_layer(self, cam: Tensor) -> None:
        """Apply a self-attention layer: R_iq += cam R_iq, R_ii += cam R_ii (Eq. 6-7).

        Args:
            cam: (n, n).
        """
        self.on_text = self.on_text + cam @ self.on_text
        self.on_image = self.on_image + cam @ self.on_image

    def cross_layer(self, cam: Tensor) -> None:
        """Apply a cross-attention layer: R_iq += norm(R_ii)^T (cam norm(R_qq)) (Eq. 10).

        Args:
            cam: (n, L).
        """
        self.on_text = self.on_text + normalised(self.on_image).T @ (cam @ self._text)


class Joined:
    """R (L + n, L) of text and image, in this order, on text: the text columns of one R over both, starting from I.

    Args:
        grid: (h, w) of the image tokens, n = h * w.
        length: L.
        device: Device of the matrix.
    """

    def __init__(self, grid: Size, length: int, device: torch.device) -> None:
        self.grid = grid
        self._length = length
        self._both = torch.eye(length + grid[0] * grid[1], length, dtype=torch.float32, device=device)

    @property
    def on_text(self) -> Tensor:
        """The rows of the image: (n, L)."""
        return self._both[self._length :]

    def layer(self, cam: Tensor) -> None:
        """Apply a layer of joint attention: R += cam R.

        Args:
            cam: (L + n, L + n).
        """
        self._both = self._both + cam @ self._both

    def image_layer(self, cam: Tensor) -> None:
        """Apply a layer of the image on itself, to the rows of the image.

        Args:
            cam: (n, n).
        """
        added = cam @ self.on_text
        self._both = torch.cat([self._both[: self._length], self.on_text + added])


def resized(values: Tensor, source: Size, target: Size) -> Tensor:
    """Resize values per image token to another grid: means over its cells, or bilinear.

    Args:
        values: (h * w, k).
        source: (h, w).
        target: (h', w').

    Returns:
        (h' * w', k).
    """
    if source == target:
        return values
    maps = values.T.reshape(1, -1, *source)
    if target[0] * target[1] < source[0] * source[1]:
        maps = F.interpolate(maps, target, mode="area")
    else:
        maps = F.interpolate(maps, target, mode="bilinear", align_corners=False)
    return maps.flatten(2)[0].T


def resized_keys(values: Tensor, source: Size, target: Size) -> Tensor:
    """Resize values along the image tokens to another grid; rows keep their sum.

    Args:
        values: (k, h * w).
        source: (h, w).
        target: (h', w').

    Returns:
        (k, h' * w').
    """
    factor = (target[0] * target[1]) / (source[0] * source[1])
    return resized(values.T, source, target).T / factor
