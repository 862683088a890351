"""Concept scores of a run, as `dv.concept_scores` computes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from numpy.typing import NDArray

from diffvis_widget.arguments import choice, step_index
from diffvis_widget.traces.html_summary import CurveRow, card, curve_table, last
from diffvis_widget.traces.json_fields import read_text, read_texts
from diffvis_widget.traces.types import Floats
from diffvis_widget.traces.values import ResultValue, as_array, data_frame

from .stored_result import DescribedRun, StoredResult, StoredTensors, register_result


@register_result
@dataclass(frozen=True, eq=False, repr=False)
class ConceptScores(ResultValue, StoredResult):
    """Scores of K concepts over T steps.

    Attributes:
        kind: name of the kind in a trace file.
        single: a trace has one at most.
        concepts: the K words.
        cosine: float32 (T, K), -1..1, raw cosine of the decoded prediction and the concept.
        share: float32 (T, K), 0..1, softmax over the concepts with the logit scale of the meter's model.
        null_band: float32 (T, 2), 5th and 95th percentile of the cosines of unrelated words.
        emergence: float32 (K,), index of the first step from which the cosine stays above the midpoint of its first and
            last value; NaN where the concept is not clearly present at the end (last value above the null band, and
            above the middle between the band and the highest last value), or ends no higher than it began.
        meter: name of the meter.
        by_frame: float32 (T, F, K), of a video the raw cosine of each latent frame's image, whose mean `cosine` is;
            None for an image.
        present: float32 (T, K): 1 where the calibrated meter says that the concept is there, 0 where it says that it
            is not, NaN where it is not sure; None for a meter that is not calibrated. Where it was measured, "present"
            is right in nine of ten cases or more.

    Example:
        >>> import numpy as np
        >>> ones = np.ones((3, 1), np.float32)
        >>> scores = ConceptScores(["circle"], ones * 0.2, ones, np.zeros((3, 2), np.float32), ones[0], "a meter")
        >>> scores.cosine.shape
        (3, 1)
    """

    kind: ClassVar[str] = "scores"
    single: ClassVar[bool] = True

    concepts: list[str]
    cosine: Floats
    share: Floats
    null_band: Floats
    emergence: Floats
    meter: str
    by_frame: Floats | None = None
    present: Floats | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return as_array(self.cosine, dtype, copy)

    def _repr_html_(self) -> str:
        rows = [
            CurveRow(concept, values, (last(values),))
            for concept, values in zip(self.concepts, self.cosine.T, strict=True)
        ]
        facts = (f"{len(self.cosine)} steps", self.meter)
        return card("Concept scores", facts, curve_table(("concept", "cosine", "last"), rows))

    def to_pandas(self) -> Any:
        """Makes a table of the cosines: a row for each step, a column for each concept. It needs pandas.

        Returns:
            A pandas DataFrame.
        """
        return data_frame(dict(zip(self.concepts, self.cosine.T, strict=True)), index_name="index")

    def verdict(self, concept: str, step: int = -1) -> str:
        """Says in words whether a concept is there.

        Args:
            concept: one of ``concepts``.
            step: index of the step; -1 is the last.

        Returns:
            "present", "absent", "not sure yet", or "not calibrated" for a meter without a calibration.

        Raises:
            ValueError: the concept was not measured.
            IndexError: the step is out of range.
        """
        column = self.concepts.index(choice("concept", concept, self.concepts))
        row = step_index(step, len(self.cosine))
        if self.present is None:
            return "not calibrated"
        value = float(self.present[row, column])
        return "not sure yet" if math.isnan(value) else "present" if value else "absent"

    def check(self, run: DescribedRun) -> None:
        """Checks the shapes; see `StoredResult.check`.

        Args:
            run: the run.

        Raises:
            ValueError: an array has not the shape that the steps and concepts require.
        """
        steps, count = len(run.steps), len(self.concepts)
        shapes = {"cosine": (steps, count), "share": (steps, count), "null_band": (steps, 2), "emergence": (count,)}
        if self.present is not None:
            shapes["present"] = (steps, count)
        for name, shape in shapes.items():
            if (actual := getattr(self, name).shape) != shape or not count:
                raise ValueError(f"scores: {name} is {actual}, and this trace of {steps} steps needs {shape}")
        if self.by_frame is not None and (self.by_frame.ndim != 3 or self.by_frame.shape[::2] != (steps, count)):
            raise ValueError(f"scores: by_frame is {self.by_frame.shape}, and it needs ({steps}, frames, {count})")

    def header(self) -> dict[str, Any]:
        """Describes the scores; see `StoredResult.header`.

        Returns:
            Concepts and meter.
        """
        return {"concepts": self.concepts, "meter": self.meter}

    def tensors(self) -> dict[str, Floats]:
        """Names the arrays; see `StoredResult.tensors`.

        Returns:
            The arrays.
        """
        return {
            "cosine": self.cosine,
            "share": self.share,
            "null_band": self.null_band,
            "emergence": self.emergence,
            **({} if self.by_frame is None else {"by_frame": self.by_frame}),
            **({} if self.present is None else {"present": self.present}),
        }

    @classmethod
    def read(cls, header: Mapping[str, Any], tensors: StoredTensors) -> Self:
        """Reads scores; see `StoredResult.read`.

        Args:
            header: concepts and meter.
            tensors: the arrays.

        Returns:
            The scores.
        """
        band = "null" if "null" in tensors else "null_band"  # its name before version 0.2
        return cls(
            read_texts("concepts", header.get("concepts")),
            tensors.floats("cosine", 2),
            tensors.floats("share", 2),
            tensors.floats(band, 2),
            tensors.floats("emergence", 1),
            read_text("meter", header.get("meter")),
            tensors.floats("by_frame", 3) if "by_frame" in tensors else None,
            tensors.floats("present", 2) if "present" in tensors else None,
        )
