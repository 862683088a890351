"""The finished steps of a run, as arrays over steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .types import Floats, Layer, Record, Step


class RecordedSteps:
    """The part of a trace that grows: one record per step. T is the number of finished steps.

    Every property takes one copy of the list of records, because a run may append in another thread.

    Args:
        records: finished steps to begin with.
        layers: the traced layers.
    """

    def __init__(self, records: Sequence[Record], layers: Sequence[Layer]) -> None:
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
    def latents(self) -> NDArray[Any]:
        """(T + 1, C, h, w), float16 or float32: [0] the initial noise, [k] what entered step k, [T] the newest."""
        records = self._with_latents("latents")
        return np.stack([*(record.latents for record in records), records[-1].result])

    @property
    def predictions(self) -> NDArray[Any]:
        """(T, C, h, w): the clean latents predicted at each step, with guidance, before any clipping."""
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
        """float32 (T, h, w): root mean square over channels of conditional minus unconditional output.

        None for a run without guidance; NaN at steps without, where others had it.
        """
        maps = [record.guidance for record in self.records]
        first = next((part for part in maps if part is not None), None)
        if first is None:
            return None
        return np.stack([np.full_like(first, np.nan) if part is None else part for part in maps])

    @property
    def visible_latents(self) -> Floats:
        """float32 (T, C, h, w): the latents that entered each step, on the scale of the VAE.

        Schedulers of the Euler kind keep latents whose noise grows to many times the image; these are scaled down.
        """
        records = self._with_latents("latents")
        return np.stack([record.latents.astype(np.float32) * np.float32(record.visible) for record in records])

    @property
    def reused(self) -> NDArray[np.bool_]:
        """Tells where a layer did not run because a cache served its older result.

        Its map at such a step is that of the step in which it last ran.
        """
        records = self.records
        reused = np.zeros((len(records), len(self.layers)), dtype=bool)
        for index, record in enumerate(records):
            reused[index, list(record.reused)] = True
        return reused
