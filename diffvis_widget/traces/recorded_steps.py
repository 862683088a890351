"""The finished steps of a run, as arrays over steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .selectors import pick_frame
from .types import Floats, Layer, Record, Step


class RecordedSteps:
    """The part of a trace that grows: one record per step. T is the number of finished steps.

    Every property takes one copy of the list of records, because a run may append in another thread.

    Args:
        records: finished steps to begin with.
        layers: the traced layers.

    Attributes:
        meta: settings of the run.
    """

    meta: dict[str, Any]

    def __init__(self, records: Sequence[Record], layers: Sequence[Layer]) -> None:
        self.meta = {}
        self._records = list(records)
        self.layers = list(layers)

    def append(self, record: Record) -> None:
        """Adds a finished step. The tracer calls it in order.

        Args:
            record: the step.
        """
        self._records.append(record)

    @property
    def records(self) -> list[Record]:
        """The finished steps with everything that was kept of each."""
        return list(self._records)

    @property
    def steps(self) -> list[Step]:
        """One Step per evaluation of the denoiser that the scheduler consumed."""
        return [record.step for record in self.records]

    @property
    def timesteps(self) -> Floats:
        """float32 (T,): the scheduler's time step at each step."""
        return np.array([record.step.timestep for record in self.records], dtype=np.float32)

    @property
    def sigmas(self) -> Floats:
        """float32 (T,): noise over signal at each step; for flow matching its own sigma."""
        return np.array([record.step.sigma for record in self.records], dtype=np.float32)

    @property
    def frame_count(self) -> int:
        """Number of latent frames F of a video, whose arrays have an axis for them; 1 for an image."""
        records = self._records[:1]
        return records[0].latents.shape[1] if records and records[0].latents.ndim == 4 else 1

    def output_frames(self, frame: int) -> range:
        """Finds the frames of the video that a latent frame stands for: autoencoders for videos compress time.

        Args:
            frame: index of the latent frame; negative ones count from the end.

        Returns:
            Indices of the video's frames: one for the first latent frame, as many as the autoencoder compresses (4 or
            8) for each other one. Of an image, range(0, 1).

        Raises:
            IndexError: there is no such frame.
            TypeError: it is no integer.
            ValueError: the compression is not known.
        """
        frames = self.frame_count
        index = pick_frame(frames, frame)
        if not isinstance(index, int):
            raise TypeError(f"frame must be the index of a latent frame, not {frame!r}")
        factor = self.meta.get("frames_per_latent")
        if not index:
            return range(1)
        if not isinstance(factor, int) or factor < 1:
            raise ValueError('output_frames: meta["frames_per_latent"] does not say how much the video is compressed')
        return range(1 + (index - 1) * factor, 1 + index * factor)

    @property
    def latents(self) -> NDArray[Any]:
        """(T + 1, C, h, w), float16 or float32: [0] the initial noise, [k] what entered step k, [T] the newest.

        Of a video, (T + 1, C, F, h, w).
        """
        records = self._with_latents("latents")
        return np.stack([*(record.latents for record in records), records[-1].result])

    @property
    def predictions(self) -> NDArray[Any]:
        """(T, C, h, w), or (T, C, F, h, w): the clean latents predicted at each step, guided, before any clipping."""
        records = self._with_latents("predictions")
        return np.stack([record.prediction for record in records])

    def _with_latents(self, name: str) -> list[Record]:
        records = self.records
        if not records:
            raise ValueError(f"{name}: no step of this trace is finished yet")
        if self.is_compact:
            raise ValueError(
                f"{name}: this trace was opened from a compact file, which has none: open one that was saved whole"
            )
        return records

    @property
    def is_compact(self) -> bool:
        """Whether it was opened from a compact file: images and attention maps for viewing, and no latents."""
        return bool(self._records) and self._records[0].latents.size == 0

    @property
    def guidance(self) -> Floats | None:
        """float32 (T, h, w), or (T, F, h, w): root mean square over channels of conditional minus unconditional output.

        None for a run without guidance; NaN at steps without, where others had it.
        """
        maps = [record.guidance for record in self.records]
        first = next((part for part in maps if part is not None), None)
        if first is None:
            return None
        return np.stack([np.full_like(first, np.nan) if part is None else part for part in maps])

    @property
    def visible_latents(self) -> Floats:
        """float32 (T, C, h, w), or (T, C, F, h, w): the latents that entered each step, on the scale of the VAE.

        Schedulers of the Euler kind keep latents whose noise grows to many times the image; these are scaled down.
        """
        records = self._with_latents("latents")
        return np.stack([record.latents.astype(np.float32) * np.float32(record.visible) for record in records])

    @property
    def reused(self) -> NDArray[np.bool_]:
        """Lists where a layer did not run because a cache served its older result.

        Its map at such a step is that of the step in which it last ran.
        """
        records = self.records
        reused = np.zeros((len(records), len(self.layers)), dtype=bool)
        for index, record in enumerate(records):
            reused[index, list(record.reused)] = True
        return reused
