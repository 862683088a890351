"""The images of the steps of a run: decoded on first use, or as a file has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.arguments import choice, step_index
from diffvis_widget.traces.file.image_codec import EncodedImages
from diffvis_widget.traces.file.validation import FRAME_KINDS

from .array_checks import check_image, check_latents
from .attended_positions import AttendedPositions
from .frames import StepFrames, guidance_frames
from .types import Decoder, FrameKind, Images, Keep, Layer, Record, Word


class DecodedSteps(AttendedPositions):
    """The part of a trace that has the images of its steps.

    Args:
        records: finished steps to begin with.
        layers: the traced layers.
        words: the words of the prompt.
        negative_words: the words of the negative prompt, None without.
        keep: what of the attention maps was kept.
        frames: encoded images of every step by kind, as a file has them.
        decoder: decodes latents; None for a trace without a pipeline.
    """

    def __init__(
        self,
        records: Sequence[Record],
        layers: Sequence[Layer],
        words: Sequence[Word],
        negative_words: Sequence[Word] | None,
        keep: Keep,
        frames: Mapping[str, EncodedImages],
        decoder: Decoder | None,
    ) -> None:
        super().__init__(records, layers, words, negative_words, keep, self._predicted_image)
        self._decoder = decoder
        self._frames = StepFrames(frames)

    def frames(self, kind: FrameKind) -> Images:
        """Decodes one image per step by the VAE of the run, on first use; then they are kept.

        Args:
            kind: "prediction" (the predicted image), "latents" (the noisy image that entered the step) or "guidance"
                (grey on the latent grid; white is the largest value of the run).

        Returns:
            uint8 (T, H, W, 3); of a video (T, output frames, H, W, 3), and for "guidance" (T, F, h, w, 3).

        Raises:
            ValueError: there is no such kind, the run had no guidance, no step is finished, or there is no decoder.

        Example:
            >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
            >>> trace.frames("prediction").shape
            (2, 96, 96, 3)
        """
        if choice("kind", kind, get_args(FrameKind)) == "guidance":
            return guidance_frames(self.guidance)
        records = self.records
        if not records:
            raise ValueError("frames: no step of this trace is finished yet")
        latents = (lambda: self.predictions) if kind == "prediction" else (lambda: self.visible_latents)
        return self._frames.all(kind, len(records), latents, self.decode)

    def frame(self, kind: Literal["prediction", "latents"], index: int) -> Images:
        """Decodes one image of `frames` and no other.

        Args:
            kind: "prediction" or "latents".
            index: of the step; negative ones count from the end.

        Returns:
            uint8 (H, W, 3); of a video, (output frames, H, W, 3).

        Raises:
            TypeError: the index is no integer.
            IndexError: there is no such step.
            ValueError: there is no such kind, or no decoder.
        """
        choice("kind", kind, FRAME_KINDS)
        index = step_index(index, len(self._records), "index")

        def decode() -> Images:
            record = self._with_latents("frame")[index]
            source = record.prediction
            if kind == "latents":
                source = record.latents.astype(np.float32) * np.float32(record.visible)
            return self.decode(source[None])[0]

        return self._frames.image(kind, index, decode)

    def keep_frame(self, kind: Literal["prediction", "latents"], index: int, image: Images) -> None:
        """Keeps an image that was decoded elsewhere, so that `frames` does not decode it again.

        Args:
            kind: "prediction" or "latents".
            index: of the step.
            image: uint8 (H, W, 3).
        """
        choice("kind", kind, FRAME_KINDS)
        checked = check_image("image", image, self.frame_count > 1)
        self._frames.keep(kind, step_index(index, len(self._records), "index"), checked)

    def encoded_frames(self, kind: str) -> EncodedImages | None:
        """Takes the frames as the file has them that the trace was opened from.

        Args:
            kind: "prediction" or "latents".

        Returns:
            The encoded frames, None where there are none.
        """
        return self._frames.encoded(choice("kind", kind, FRAME_KINDS))

    def decode(self, latents: NDArray[Any]) -> Images:
        """Decodes latents by the VAE of the run.

        Args:
            latents: (n, C, h, w) or (n, C, F, h, w), on the scale of `visible_latents`.

        Returns:
            uint8 (n, H, W, 3) or (n, output frames, H, W, 3).

        Raises:
            ValueError: the trace was opened from a file, so it has no pipeline.
        """
        if self._decoder is None:
            raise ValueError(
                "this trace has no pipeline to decode latents: it was opened from a file without frames, or pickled. "
                'Save it with frames=True, or call trace.frames("prediction") before it is pickled'
            )
        channels = self._records[0].latents.shape[0] if self._records else None
        return self._decoder(check_latents("latents", latents, 4, channels, self.frame_count > 1))

    def has_frames(self, kind: FrameKind) -> bool:
        """Checks whether `frames` can return a kind.

        Args:
            kind: "prediction", "latents" or "guidance".

        Returns:
            True if the frames are decoded, or there is a decoder.
        """
        if choice("kind", kind, get_args(FrameKind)) == "guidance":
            return self.guidance is not None
        return self._decoder is not None or self._frames.count(kind) >= len(self._records) > 0

    def _predicted_image(self, step: int, frame: int) -> Images:
        images = self.frame("prediction", step)
        if images.ndim == 3:
            return images
        if len(images) == self.frame_count:  # a compact file has one image for each latent frame
            return images[frame]
        shown = self.output_frames(frame)
        return images[min(shown[len(shown) // 2], len(images) - 1)]
