"""Saliency maps of a step, as the methods of `dv.explain` compute them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.arguments import MAX_STEPS, count, instance, text
from diffvis_widget.step_numbers import step_number
from diffvis_widget.traces.html_summary import card, map_thumbnail, number, value_range
from diffvis_widget.traces.json_fields import read_integer, read_text, read_texts
from diffvis_widget.traces.types import Floats
from diffvis_widget.traces.values import ResultValue, as_array

from .stored_result import DescribedRun, StoredResult, StoredTensors, register_result

_MAX_MASKS = 2**53


@register_result
@dataclass(frozen=True, eq=False, repr=False)
class Saliency(ResultValue, StoredResult):
    """How much each latent pixel matters at one step.

    Attributes:
        kind: name of the kind in a trace file.
        method: name of the method.
        step: index of the step.
        map: float32 (h, w), in the method's own unit; larger matters more.
        stderr: float32 (h, w), standard error of ``map``, for methods with random masks; else None. NaN where it is
            not known.
        masks_used: number of masks; 0 without.
        layers: raw maps float32 (h, w) of single layers by name, for methods that have them.

    Example:
        >>> import numpy as np
        >>> Saliency("df_cam", 4, np.array([[0, 2], [1, 4]], np.float32)).scaled.tolist()
        [[0.0, 0.5], [0.25, 1.0]]
    """

    kind: ClassVar[str] = "saliency"

    method: str
    step: int
    map: Floats
    stderr: Floats | None = None
    masks_used: int = 0
    layers: Mapping[str, Floats] = field(default_factory=dict[str, Floats])

    def __post_init__(self) -> None:
        text("method", self.method)
        count("step", self.step, 0, MAX_STEPS)
        instance("map", self.map, np.ndarray, "an array (h, w)")
        if self.stderr is not None:
            instance("stderr", self.stderr, np.ndarray, "an array (h, w), or None")
        count("masks_used", self.masks_used, 0, _MAX_MASKS)
        instance("layers", self.layers, Mapping, "a dict of arrays (h, w) by name")
        for name, layer in self.layers.items():
            text("layers", name)
            instance("layers", layer, np.ndarray, "a dict of arrays (h, w) by name")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return as_array(self.map, dtype, copy)

    def _repr_html_(self) -> str:
        low, high = value_range([self.map])
        facts = (
            self.method,
            f"step {step_number(self.step)}",
            " × ".join(map(str, self.map.shape)),
            f"{number(low)} to {number(high)}",
            f"{self.masks_used} masks" if self.masks_used else "",
        )
        return card(
            "Saliency", facts, map_thumbnail(self.map, f"saliency map of {self.method}, step {step_number(self.step)}")
        )

    @property
    def scaled(self) -> Floats:
        """float32 (h, w): ``map`` scaled to 0..1 by its own minimum and maximum, for display."""
        return scale(self.map)

    def check(self, run: DescribedRun) -> None:
        """Checks step and shape; see `StoredResult.check`.

        Args:
            run: the run.

        Raises:
            ValueError: there is no such step, or the map is not (h, w).
        """
        steps = len(run.steps)
        if not 0 <= self.step < steps or self.map.ndim != 2:
            raise ValueError(
                f"saliency: a map of {self.method} is of the step with index {self.step} and shape {self.map.shape}; "
                f"it must be (h, w) of a step with an index from 0 to {steps - 1}"
            )

    def header(self) -> dict[str, Any]:
        """Describes the map; see `StoredResult.header`.

        Returns:
            Method, step, number of masks and names of the layers.
        """
        return {
            "method": self.method,
            "step": self.step,
            "masks_used": self.masks_used,
            "layers": list(self.layers),
        }

    def tensors(self) -> dict[str, Floats]:
        """Names the arrays; see `StoredResult.tensors`.

        Returns:
            The map under "", its standard error, and the maps of layers by number.
        """
        arrays = {"": self.map, **{str(number): layer for number, layer in enumerate(self.layers.values())}}
        return arrays if self.stderr is None else {**arrays, "stderr": self.stderr}

    @classmethod
    def read(cls, header: Mapping[str, Any], tensors: StoredTensors) -> Self:
        """Reads a map; see `StoredResult.read`.

        Args:
            header: method, step, number of masks and names of the layers.
            tensors: the arrays.

        Returns:
            The map.
        """
        layers = read_texts("layers", header.get("layers"), least=0)
        return cls(
            read_text("method", header.get("method")),
            read_integer("step", header.get("step"), 0, 100_000),
            tensors.floats("", 2),
            tensors.floats("stderr", 2) if "stderr" in tensors else None,
            read_integer("masks_used", header.get("masks_used"), 0, 2**31),
            {name: tensors.floats(str(number), 2) for number, name in enumerate(layers)},
        )


def scale(values: NDArray[np.floating]) -> Floats:
    """Scales values to 0..1 by their minimum and maximum.

    Args:
        values: any shape, not empty.

    Returns:
        float32 of the same shape; zeros where all values are equal.
    """
    low, high = float(values.min()), float(values.max())
    return ((values - low) / (high - low if high > low else 1.0)).astype(np.float32)
