"""What results have in common as Python objects: comparison by value, and a short text."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

_MAX_TEXT = 60
_MAX_ITEMS = 4


class Comparable:
    """Base of a mutable object, equal to itself only, whose content can be compared."""

    def equals(self, other: object) -> bool:
        """Compares the attributes that `compared` lists.

        Args:
            other: anything.

        Returns:
            True for an object of the same class with the same content.
        """
        return isinstance(other, Comparable) and type(other) is type(self) and _same(self.compared(), other.compared())

    def compared(self) -> tuple[Any, ...]:
        """Lists what `equals` compares.

        Returns:
            Values.
        """
        raise NotImplementedError


class ResultValue:
    """Base of the frozen dataclasses that hold results.

    Two results are equal where they have the same class and equal fields: arrays by dtype, shape and values (NaN equals
    NaN), traces by content (`Trace.equals`). Equal results have the same hash, which leaves out the
    values of arrays. `repr` states arrays by dtype and shape, and shortens long texts and lists.
    """

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(_same(value, getattr(other, name)) for name, value in _fields(self).items())

    def __hash__(self) -> int:
        return hash((type(self).__name__, *map(_key, _fields(self).values())))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={_short(value)}" for name, value in _fields(self).items())
        return f"{type(self).__name__}({fields})"


def as_array(values: NDArray[Any], dtype: Any, copy: bool | None) -> NDArray[Any]:
    """Answers numpy's `__array__` with an array.

    Args:
        values: the array.
        dtype: the dtype that numpy asks for, or None.
        copy: whether numpy asks for a copy; None leaves it open.

    Returns:
        The array, as the arguments say.

    Raises:
        ValueError: a copy is needed and forbidden.
    """
    converted = values if dtype is None else values.astype(dtype, copy=False)
    if copy is False and converted is not values:
        raise ValueError(f"an array of {values.dtype} cannot become {np.dtype(dtype)} without a copy")
    return converted.copy() if copy and converted is values else converted


def data_frame(columns: Mapping[str, Any], index: Any = None, index_name: str | None = None) -> Any:
    """Makes a pandas DataFrame.

    Args:
        columns: values by name of the column.
        index: labels of the rows; None numbers them.
        index_name: name of the index.

    Returns:
        The DataFrame.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        pd: Any = importlib.import_module("pandas")
    except ImportError:
        raise ImportError("to_pandas needs pandas, which is not installed: pip install pandas") from None
    frame = pd.DataFrame(dict(columns), index=index)
    frame.index.name = index_name
    return frame


def _fields(result: Any) -> dict[str, Any]:
    return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        array, other = cast("NDArray[Any]", a), cast("NDArray[Any]", b)
        return array.dtype == other.dtype and bool(np.array_equal(array, other, equal_nan=array.dtype.kind in "fc"))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return False
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        first, second = cast("Mapping[Any, Any]", a), cast("Mapping[Any, Any]", b)
        return list(first) == list(second) and all(_same(value, second[name]) for name, value in first.items())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        rows, others = cast("list[Any]", a), cast("list[Any]", b)
        return len(rows) == len(others) and all(_same(row, other) for row, other in zip(rows, others, strict=True))
    if dataclasses.is_dataclass(cast(object, a)) and not isinstance(a, ResultValue):
        if type(cast(object, a)) is not type(cast(object, b)):
            return False
        return all(_same(value, getattr(b, name)) for name, value in _fields(a).items())
    if isinstance(a, Comparable):
        return a.equals(b)
    return bool(a == b) or (isinstance(a, float) and isinstance(b, float) and np.isnan(a) and np.isnan(b))


def _key(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return cast("NDArray[Any]", value).shape
    if isinstance(value, Mapping):
        return tuple(cast("Mapping[Any, Any]", value))
    if isinstance(value, list | tuple):
        return tuple(map(_key, cast("list[Any]", value)))
    if isinstance(value, Comparable):
        return type(value).__name__
    return "nan" if isinstance(value, float) and np.isnan(value) else value


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        array = cast("NDArray[Any]", value)
        return f"<{array.dtype.name} {array.shape}>"
    if isinstance(value, Mapping):
        items = [f"{name!r}: {_short(part)}" for name, part in cast("Mapping[Any, Any]", value).items()]
        return "{" + _listed(items) + "}"
    if isinstance(value, list | tuple):
        return "[" + _listed([_short(part) for part in cast("list[Any]", value)]) + "]"
    text = repr(value)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."


def _listed(items: list[str]) -> str:
    more = [] if len(items) <= _MAX_ITEMS else [f"... {len(items) - _MAX_ITEMS} more"]
    return ", ".join([*items[:_MAX_ITEMS], *more])
