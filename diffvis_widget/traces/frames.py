"""The images of the steps of a trace: encoded as in its file, or decoded once and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .file.image_codec import EncodedImages
from .types import Floats, Images

DECODE_BATCH = 4  # latents decoded at a time: a VAE needs much memory


def guidance_frames(guidance: Floats | None) -> Images:
    """Draws the guidance of each step.

    Args:
        guidance: float32 (T, h, w), or (T, F, h, w) of a video; None for a run without.

    Returns:
        uint8 (T, h, w, 3) or (T, F, h, w, 3), grey; white is the largest value of the run.

    Raises:
        ValueError: the run had no guidance.
    """
    if guidance is None:
        raise ValueError("frames('guidance'): this run had no guidance (guidance_scale of 1 or less)")
    shown = np.nan_to_num(guidance)
    grey = np.round(shown * (255.0 / max(float(shown.max()), 1e-12))).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


class StepFrames:
    """Images uint8 (H, W, 3) by kind ("prediction" or "latents") and step; of a video, its frames (frames, H, W, 3).

    Args:
        encoded: encoded images of every step by kind, as a file has them.
    """

    def __init__(self, encoded: Mapping[str, EncodedImages]) -> None:
        self._encoded = dict(encoded)
        self._decoded: dict[str, dict[int, Images]] = {"prediction": {}, "latents": {}}

    def encoded(self, kind: str) -> EncodedImages | None:
        """Looks up encoded images.

        Args:
            kind: "prediction" or "latents".

        Returns:
            The images, None where there are none.
        """
        return self._encoded.get(kind)

    def count(self, kind: str) -> int:
        """Counts the steps whose image needs no decoder.

        Args:
            kind: "prediction" or "latents".

        Returns:
            The number of images.
        """
        encoded = self._encoded.get(kind)
        return len(self._decoded[kind]) if encoded is None else len(encoded)

    def keep(self, kind: str, index: int, image: Images) -> None:
        """Keeps an image that was decoded elsewhere.

        Args:
            kind: "prediction" or "latents".
            index: of the step.
            image: uint8 (H, W, 3).
        """
        if (encoded := self._encoded.pop(kind, None)) is not None:
            self._decoded[kind] = dict(enumerate(encoded))
        self._decoded[kind][index] = image

    def image(self, kind: str, index: int, decode: Callable[[], Images]) -> Images:
        """Takes the image of one step.

        Args:
            kind: "prediction" or "latents".
            index: of the step, from 0.
            decode: decodes it, (H, W, 3), where it is not there yet.

        Returns:
            uint8 (H, W, 3).
        """
        if (encoded := self._encoded.get(kind)) is not None:
            return encoded[index]
        decoded = self._decoded[kind]
        if index not in decoded:
            decoded[index] = decode()
        return decoded[index]

    def all(
        self, kind: str, steps: int, latents: Callable[[], NDArray[Any]], decode: Callable[[NDArray[Any]], Images]
    ) -> Images:
        """Takes the images of all steps.

        Args:
            kind: "prediction" or "latents".
            steps: number of steps.
            latents: gives the latents of all steps, where some are not decoded yet.
            decode: decodes latents (n, C, h, w) into images (n, H, W, 3).

        Returns:
            uint8 (steps, H, W, 3).
        """
        if (encoded := self._encoded.get(kind)) is not None:
            return np.stack([encoded[index] for index in range(steps)])
        decoded = self._decoded[kind]
        missing = [index for index in range(steps) if index not in decoded]
        source = latents() if missing else None
        size = DECODE_BATCH if source is not None and source.ndim == 4 else 1  # videos one at a time
        for start in range(0, len(missing), size):
            assert source is not None
            batch = missing[start : start + size]
            decoded.update(zip(batch, decode(source[batch]), strict=True))
        return np.stack([decoded[index] for index in range(steps)])

    def arrays(self) -> list[Images]:
        """Lists the decoded images.

        Returns:
            The images of all kinds.
        """
        return [image for images in self._decoded.values() for image in list(images.values())]

    @property
    def encoded_nbytes(self) -> int:
        """Bytes of the encoded images."""
        return sum(encoded.nbytes for encoded in list(self._encoded.values()))
