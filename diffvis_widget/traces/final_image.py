"""The final image of a trace: as the pipeline returned it, and as the VAE decoded it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from .types import Images


def still(image: Images) -> Images:
    """Takes the first frame of a video.

    Args:
        image: an image (H, W, 3) or the frames of a video (frames, H, W, 3).

    Returns:
        uint8 (H, W, 3).
    """
    return image[0] if image.ndim == 4 else image


class FinalImage:
    """The image that a pipeline returned, and the one that was decoded from the final latents.

    Of a video, both are its frames, (frames, H, W, 3).

    Args:
        returned: uint8 (H, W, 3), None where the pipeline returned none, or not yet.
        decoded: uint8 (h, w, 3), None where it is the returned one, or was not decoded.
    """

    def __init__(self, returned: Images | None, decoded: Images | None) -> None:
        self.returned = returned
        self.decoded = decoded
        self._latest: tuple[NDArray[Any], Images] | None = None

    def latest(self, latents: NDArray[Any], decode: Callable[[NDArray[Any]], Images]) -> Images:
        """Decodes latents, once as long as they stay the latest.

        Args:
            latents: (C, h, w), the newest latents.
            decode: decodes latents (n, C, h, w) into images (n, H, W, 3).

        Returns:
            uint8 (H, W, 3).
        """
        latest = self._latest
        if latest is None or latest[0] is not latents:
            latest = self._latest = latents, decode(latents[None])[0]
        return latest[1]

    def arrays(self) -> list[Images]:
        """Lists the images.

        Returns:
            The images that it holds.
        """
        latest = None if self._latest is None else self._latest[1]
        return [image for image in (self.returned, self.decoded, latest) if image is not None]
