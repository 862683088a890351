"""The decision curve: which of two words the final images show, by the step at which one replaced the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.intervals import UNBOUNDED, mean_interval, median_interval
from diffvis_widget.traces.html_summary import CurveRow, card, curve_table, number
from diffvis_widget.traces.types import Floats
from diffvis_widget.traces.values import ResultValue, as_array, data_frame


@dataclass(frozen=True, eq=False, repr=False)
class DecisionCurve(ResultValue):
    """What the final images show, by the step at which a word was replaced. Made by `decision_curve`.

    Attributes:
        prompt: The prompt with `word`.
        other: The prompt with `to` in its place.
        word: The word.
        to: What it was replaced by.
        steps: Number of denoising steps of each run.
        switch: int64 (K,), the step from which `other` was in force: 0 is a run of `other` alone, `steps` of `prompt`.
        seeds: int64 (S,), the seed of each row.
        concepts: C words, `word` and `to` first.
        cosine: float32 (S, K, C), CLIP similarity of the final images and the concepts; NaN where a run was not made.
        share: float32 (S, K), 0 to 1, of `word` against `to`: softmax with the meter's logit scale.

    Example:
        >>> import numpy as np
        >>> import diffvis_widget as dv
        >>> curve = dv.DecisionCurve(
        ...     "a red circle", "a blue circle", "red", "blue", 4, np.array([0, 2, 4]), np.array([0]), ["red", "blue"],
        ...     cosine=np.zeros((1, 3, 2), np.float32), share=np.array([[0.0, 0.0, 1.0]], np.float32),
        ... )
        >>> curve.decision
        3.0
    """

    prompt: str
    other: str
    word: str
    to: str
    steps: int
    switch: NDArray[np.int64]
    seeds: NDArray[np.int64]
    concepts: list[str]
    cosine: Floats
    share: Floats

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return as_array(self.share, dtype, copy)

    def _repr_html_(self) -> str:
        rows = [CurveRow("mean", self.mean, (number(self.decision),))]
        rows += [
            CurveRow(f"seed {seed}", share, (number(float(step)),))
            for seed, share, step in zip(self.seeds, self.share, self.decisions, strict=True)
        ]
        facts = (
            f"{self.word} or {self.to}",
            f"{self.steps} steps",
            f"decided after {number(self.decision)} steps",
            "" if self.complete else f"{int(self._finished.sum())} of {len(self.seeds)} seeds finished",
        )
        return card("Decision curve", facts, curve_table(("run", f"share of {self.word}", "decided after"), rows))

    def to_pandas(self) -> Any:
        """Make a table of the shares: a row for each step of the switch, a column for each seed. It needs pandas.

        Returns:
            A pandas DataFrame.
        """
        return data_frame(
            {str(seed): row for seed, row in zip(self.seeds, self.share, strict=True)}, self.switch, "switch"
        )

    @property
    def complete(self) -> bool:
        """Whether every run was made."""
        return not np.isnan(self.share).any()

    @property
    def mean(self) -> Floats:
        """float32 (K,), mean share over the finished seeds; NaN where there is none."""
        return _mean(self.share[self._finished])

    @property
    def band(self) -> Floats:
        """float32 (K, 2), 95 % interval of the mean share over all seeds, for any distribution of shares.

        From -inf to inf for fewer than two finished seeds. Of few seeds it is wide: five that all show a share of 1
        allow a mean of 0.5 to 1.
        """
        rows = self.share[self._finished]
        if len(rows) < 2:
            return np.tile(np.array(UNBOUNDED, dtype=np.float32), (len(self.switch), 1))
        return mean_interval(rows, 0, 1).astype(np.float32)

    @property
    def decision(self) -> float:
        """The median of `decisions`: the step by which half of the seeds are decided.

        NaN where most finished seeds have no decision: the meter cannot tell the images of the two prompts apart.
        """
        steps = self._decided
        return float(np.median(steps)) if 2 * len(steps) > self._finished.sum() else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the median decision step over all seeds, for any distribution: order statistics.

        From -inf to inf, that is none, for fewer than five seeds with a decision, and without a `decision`.
        """
        return UNBOUNDED if np.isnan(self.decision) else median_interval(self._decided)

    @property
    def agreeing(self) -> int:
        """Number of finished seeds with a decision at most one step away from `decision`."""
        return int((np.abs(self._decided - self.decision) <= 1).sum())

    @property
    def decisions(self) -> Floats:
        """float32 (S,): where each seed's share crosses the middle between its two ends, interpolated between steps.

        NaN where the ends are less than 0.2 apart, and for unfinished seeds.
        """
        return np.array([_crossing(self.switch, row) for row in self.share], dtype=np.float32)

    @property
    def _finished(self) -> NDArray[np.bool_]:
        return np.asarray(~np.isnan(self.share).any(axis=1))

    @property
    def _decided(self) -> Floats:
        steps = self.decisions
        return steps[np.isfinite(steps)]


def _mean(rows: Floats) -> Floats:
    return rows.mean(axis=0) if len(rows) else np.full(rows.shape[1], np.nan, dtype=np.float32)


def _crossing(points: NDArray[np.int64], curve: Floats) -> float:
    """Where the curve last rises through the middle of its two ends; from there on it stays above."""
    if np.isnan(curve).any() or curve[-1] - curve[0] < 0.2:
        return float("nan")
    middle = (curve[0] + curve[-1]) / 2
    below = int(np.flatnonzero(curve < middle)[-1])
    part = (middle - curve[below]) / (curve[below + 1] - curve[below])
    return float(points[below] + part * (points[below + 1] - points[below]))
