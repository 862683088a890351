"""Relevance of the words of a prompt at each step of a run, as `dv.explain.relevance` computes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces.html_summary import CurveRow, card, curve_table, last
from diffvis_widget.traces.json_fields import read_text
from diffvis_widget.traces.types import Floats, Word
from diffvis_widget.traces.values import ResultValue, as_array, data_frame

from .saliency import scale
from .stored_result import DescribedRun, StoredResult, StoredTensors, register_result


@register_result
@dataclass(frozen=True, eq=False, repr=False)
class WordRelevance(ResultValue, StoredResult):
    """Relevance of the W words of a trace at T steps: of its own run, or of the same under another schedule.

    Attributes:
        kind: name of the kind in a trace file.
        optional_tensors: ``maps``.
        schedule: of the steps, "uniform", "early" or "late".
        timesteps: float32 (T,).
        raw: float32 (T, W), 0 or more; NaN for truncated words.
        maps: float32 (T, W, h, w), relevance of each position of the image, whose sums over h and w are ``raw``; None
            where they were not kept.

    Example:
        >>> import numpy as np
        >>> relevance = WordRelevance("uniform", np.array([999], np.float32), np.array([[1, 3]], np.float32))
        >>> relevance.scaled([Word("a", (1,), "word"), Word("circle", (2,), "word")]).tolist()
        [[0.0, 1.0]]
    """

    kind: ClassVar[str] = "relevance"
    optional_tensors: ClassVar[frozenset[str]] = frozenset({"maps"})

    schedule: str
    timesteps: Floats
    raw: Floats
    maps: Floats | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return as_array(self.raw, dtype, copy)

    def _repr_html_(self) -> str:
        rows = [CurveRow(f"word {word}", values, (last(values),)) for word, values in enumerate(self.raw.T)]
        facts = (f"schedule {self.schedule}", f"{len(self.raw)} steps")
        return card("Relevance of words", facts, curve_table(("word", "relevance", "last"), rows))

    def to_pandas(self) -> Any:
        """Makes a table of ``raw``: a row for each step, a column for each word, by its index. It needs pandas.

        Returns:
            A pandas DataFrame.
        """
        return data_frame({str(word): row for word, row in enumerate(self.raw.T)}, index_name="index")

    def scaled(self, words: Sequence[Word]) -> Floats:
        """Scales the relevance of each step over the typed words.

        Args:
            words: the words of the trace.

        Returns:
            float32 (T, W), 0..1; NaN for all words that were not typed.
        """
        return scaled(self.raw, words)

    def check(self, run: DescribedRun) -> None:
        """Checks shapes and timesteps; see `StoredResult.check`.

        Args:
            run: the run.

        Raises:
            ValueError: a shape is wrong, or the timesteps are not those of the schedule.
        """
        steps, words = len(self.timesteps), len(run.words)
        label = f"relevance under {self.schedule!r}"
        if self.timesteps.ndim != 1 or self.raw.shape != (steps, words) or not self.raw.size:
            raise ValueError(
                f"{label}: raw is {self.raw.shape} and timesteps {self.timesteps.shape}; with the {words} words of "
                f"this trace they must be (T, {words}) and (T,), T at least 1"
            )
        maps = self.maps
        if maps is not None and (maps.ndim != 4 or maps.shape[:2] != self.raw.shape or not maps.size):
            raise ValueError(f"{label}: maps is {maps.shape} and must be {self.raw.shape} and a height and a width")
        if not np.isfinite(self.timesteps).all():
            raise ValueError(f"{label}: timesteps must be finite")
        timesteps = np.array([step.timestep for step in run.steps], dtype=np.float32)
        same_schedule = self.schedule == str(run.meta.get("schedule", "uniform"))
        if same_schedule and not np.array_equal(self.timesteps, timesteps):
            raise ValueError(
                f"{label} is of another run: that is the schedule of this trace, whose {len(run.steps)} steps have "
                "other timesteps"
            )

    def header(self) -> dict[str, Any]:
        """Describes the relevance; see `StoredResult.header`.

        Returns:
            The schedule.
        """
        return {"schedule": self.schedule}

    def tensors(self) -> dict[str, Floats]:
        """Names the arrays; see `StoredResult.tensors`.

        Returns:
            ``raw`` under "", the timesteps, and the maps where there are some.
        """
        arrays = {"": self.raw, "timesteps": self.timesteps}
        return arrays if self.maps is None else {**arrays, "maps": self.maps}

    @classmethod
    def read(cls, header: Mapping[str, Any], tensors: StoredTensors) -> Self:
        """Reads relevance; see `StoredResult.read`.

        Args:
            header: the schedule.
            tensors: the arrays.

        Returns:
            The relevance.
        """
        return cls(
            read_text("schedule", header.get("schedule")),
            tensors.floats("timesteps", 1),
            tensors.floats("", 2),
            tensors.floats("maps", 4) if "maps" in tensors else None,
        )


def typed(words: Sequence[Word]) -> list[int]:
    """Lists the words that were typed and not truncated: those that are compared with one another.

    Args:
        words: the words of a trace.

    Returns:
        Their indices.
    """
    return [index for index, word in enumerate(words) if word.kind == "word" and word.tokens]


def scaled(raw: Floats, words: Sequence[Word]) -> Floats:
    """Scales relevance to 0..1 over the typed words of each step.

    Args:
        raw: (T, W).
        words: the W words.

    Returns:
        float32 (T, W); NaN for all words that were not typed.
    """
    chosen = typed(words)
    result = np.full_like(raw, np.nan)
    for step, row in enumerate(raw[:, chosen] if chosen else ()):
        result[step, chosen] = scale(row)
    return result
