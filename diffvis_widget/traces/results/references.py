"""The reference images of an editing model, as its autoencoder saw them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.arguments import instance, items
from diffvis_widget.traces.errors import TraceFileError
from diffvis_widget.traces.json_fields import read_integer
from diffvis_widget.traces.types import Images
from diffvis_widget.traces.values import ResultValue

from .stored_result import DescribedRun, StoredResult, StoredTensors, register_result

_MOST = 64  # reference images of a run


@register_result
@dataclass(frozen=True, eq=False, repr=False)
class ReferenceImages(ResultValue, StoredResult):
    """The reference images of a run, in the order of their tokens.

    Attributes:
        kind: name of the kind in a trace file.
        single: a trace has one at most.
        optional_tensors: all images: a compact file leaves out those that are too large for it.
        images: uint8 (H, W, 3) each.

    Example:
        >>> import numpy as np
        >>> len(ReferenceImages((np.zeros((8, 8, 3), np.uint8),)).images)
        1
    """

    kind: ClassVar[str] = "references"
    single: ClassVar[bool] = True
    optional_tensors: ClassVar[frozenset[str]] = frozenset(f"image.{index}" for index in range(_MOST))

    images: tuple[Images, ...]

    def __post_init__(self) -> None:
        for image in items("images", self.images, "a tuple of images"):
            array: Any = instance("images", image, np.ndarray, "arrays (H, W, 3)")
            if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
                raise ValueError(f"images must be uint8 (H, W, 3), not {array.dtype} {array.shape}")

    def check(self, run: DescribedRun) -> None:
        """Accepts any run; see `StoredResult.check`.

        Args:
            run: the run.
        """

    def header(self) -> dict[str, Any]:
        """Describes the images; see `StoredResult.header`.

        Returns:
            Their number.
        """
        return {"count": len(self.images)}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Names the arrays; see `StoredResult.tensors`.

        Returns:
            The images.
        """
        return {f"image.{index}": image for index, image in enumerate(self.images)}

    @classmethod
    def read(cls, header: Mapping[str, Any], tensors: StoredTensors) -> Self:
        """Reads reference images; see `StoredResult.read`.

        Args:
            header: their number.
            tensors: the images.

        Returns:
            Those that the file has; none where it lacks one.

        Raises:
            TraceFileError: an array is no image.
        """
        names = [f"image.{index}" for index in range(read_integer("count", header.get("count"), 0, _MOST))]
        images = [tensors[name] for name in names if name in tensors]
        try:
            return cls(tuple(images) if len(images) == len(names) else ())
        except (TypeError, ValueError) as error:
            raise TraceFileError(f"its reference images are invalid: {error}") from None
