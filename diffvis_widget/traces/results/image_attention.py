"""What every position of the image attends to at some steps, stored so that it can be read without the model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces.errors import TraceFileError
from diffvis_widget.traces.json_fields import read_integer, read_items
from diffvis_widget.traces.types import Floats, Size
from diffvis_widget.traces.values import ResultValue

from .stored_result import DescribedRun, StoredResult, StoredTensors, register_result


@register_result
@dataclass(frozen=True, eq=False, repr=False)
class ImageAttention(ResultValue, StoredResult):
    """Attention probabilities among all positions of the image, mean over the default layers and their heads.

    Attributes:
        kind: name of the kind in a trace file.
        single: a trace has one at most.
        optional_tensors: ``rows``: a compact file leaves them out where they are too large for it.
        steps: indices of the steps.
        grid: (h, w) of the positions.
        reference_grids: (h, w) of the tokens of each reference image.
        rows: float16 (steps, positions, keys): the keys are the positions, then the tokens of each reference image;
            None where a compact file left them out.

    Example:
        >>> import numpy as np
        >>> ImageAttention((0,), (1, 2), (), np.full((1, 2, 2), 0.5, np.float16)).row(0, (0, 1)).tolist()
        [0.5, 0.5]
    """

    kind: ClassVar[str] = "image_attention"
    single: ClassVar[bool] = True
    optional_tensors: ClassVar[frozenset[str]] = frozenset({"rows"})

    steps: tuple[int, ...]
    grid: Size
    reference_grids: tuple[Size, ...]
    rows: NDArray[np.float16] | None

    @property
    def spans(self) -> list[slice]:
        """Where the keys of the image, and of each reference image, lie in a row."""
        ends = np.cumsum([0, *(math.prod(grid) for grid in (self.grid, *self.reference_grids))]).tolist()
        return [slice(start, end) for start, end in itertools.pairwise(ends)]

    def row(self, step: int, token: Size) -> Floats | None:
        """Takes what a position attends to.

        Args:
            step: index of a step.
            token: row and column of the position in the grid.

        Returns:
            float32 (keys,); None for a step that was not stored.
        """
        if self.rows is None or step not in self.steps:
            return None
        return self.rows[self.steps.index(step), token[0] * self.grid[1] + token[1]].astype(np.float32)

    def check(self, run: DescribedRun) -> None:
        """Checks steps and shape; see `StoredResult.check`.

        Args:
            run: the run.

        Raises:
            ValueError: a step or the shape does not fit.
        """
        if any(step >= len(run.steps) for step in self.steps) or len(set(self.steps)) < len(self.steps):
            raise ValueError(f"image_attention: steps {self.steps}, and the run has {len(run.steps)}")
        shape = len(self.steps), math.prod(self.grid), self.spans[-1].stop
        if self.rows is not None and self.rows.shape != shape:
            raise ValueError(f"image_attention: rows are {self.rows.shape}, and must be {shape}")

    def header(self) -> dict[str, Any]:
        """Describes the rows; see `StoredResult.header`.

        Returns:
            Steps and grids.
        """
        return {"steps": self.steps, "grid": self.grid, "reference_grids": self.reference_grids}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Names the arrays; see `StoredResult.tensors`.

        Returns:
            The rows, where there are some.
        """
        return {} if self.rows is None else {"rows": self.rows}

    @classmethod
    def read(cls, header: Mapping[str, Any], tensors: StoredTensors) -> Self:
        """Reads stored rows; see `StoredResult.read`.

        Args:
            header: steps and grids.
            tensors: the rows.

        Returns:
            The result.

        Raises:
            TraceFileError: the rows have another dtype.
        """
        steps = read_items("steps", header.get("steps"), lambda step: read_integer("steps", step, 0, 100_000))
        grids = read_items("reference_grids", header.get("reference_grids"), _grid, least=0)
        rows = tensors.get("rows")
        if rows is not None and rows.dtype != np.float16:
            raise TraceFileError(f"its part {tensors.full_name('rows')!r} is {rows.dtype.name}, not float16")
        return cls(tuple(steps), _grid(header.get("grid")), tuple(grids), rows)


def _grid(value: Any) -> Size:
    sides = read_items("grid", value, lambda side: read_integer("grid", side, 1, 4096))
    if len(sides) != 2:
        raise TraceFileError(f"its field 'grid' is {sides}, not a height and a width")
    return sides[0], sides[1]
