"""The columns of a study's table: names, kinds, and values of these kinds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from diffvis_widget.arguments import shorten

Kind = Literal["flag", "number", "text", "bytes", "integer", "numbers", "texts", "curve", "curves", "table"]
"""What a column holds: a truth value, a number, a text, ...; "numbers" and "table" are lists and lists of lists of
float64, "curve" and "curves" the same of float32, as the built-in measures have them."""

BASE: dict[str, Kind] = {
    "row": "integer",
    "id": "text",
    "prompt": "text",
    "seed": "integer",
    "condition": "text",
    "settings": "text",
    "fingerprint": "text",
    "seconds": "number",
    "error": "text",
    "run_prompt": "text",
    "words": "texts",
    "roles": "texts",
    "timesteps": "curve",
    "sigmas": "curve",
    "trace_file": "text",
    "thumbnail": "bytes",
}
"""The columns that every study has."""
RESERVED = frozenset(BASE)


def plain_value(value: Any) -> Any:
    """Convert a value of a table of prompts to what a column holds.

    Args:
        value: Any value; what is no text, number or truth value becomes JSON.

    Returns:
        A text, float, bool or None.
    """
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    return json.dumps(value, default=str)


def kind_of(name: str, value: Any) -> Kind:
    """Choose the kind of column for a value.

    Args:
        name: Name of the column, for the error.
        value: A truth value, number, text, list of numbers or texts, list of lists of numbers, or None.

    Returns:
        The kind; a list without items, and None, count as numbers.

    Raises:
        TypeError: No column holds such a value.

    Example:
        >>> kind_of("sharpness", [0.5, 1.5])
        'numbers'
    """
    value = plain_list(value)
    if isinstance(value, bool):
        return "flag"
    if value is None or isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value) and value:
            return "texts"
        if all(_is_number(item) for item in value):
            return "numbers"
        if all(isinstance(item, list) and all(_is_number(number) for number in item) for item in value):
            return "table"
    allowed = "a number, a text, True or False, a list of numbers or texts, or a list of lists of numbers"
    raise TypeError(f"the column {name!r} of a measure must hold {allowed}, not {shorten(value)}")


def plain_list(value: Any) -> Any:
    """Convert arrays and tuples to lists, and numbers of numpy to Python's.

    Args:
        value: Any value.

    Returns:
        The value in plain Python types.
    """
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [plain_list(item) for item in value]
    return value


def checked(columns: Mapping[str, Kind], values: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Check the values that a measure returned for a row.

    Args:
        columns: Kinds of the measure's columns.
        values: Values by column; a column without one is None.
        owner: Name of the measure, for the error.

    Returns:
        Plain values of all columns.

    Raises:
        TypeError: A value is of another kind.
        ValueError: There is a column that the measure did not have at first.
    """
    if more := [name for name in values if name not in columns]:
        raise ValueError(
            f"the measure {owner} returned a column {more[0]!r}, which the first row did not have: return the same "
            "columns for every run, None where there is no value"
        )
    row: dict[str, Any] = {}
    for name, kind in columns.items():
        value = row[name] = plain_list(values.get(name))
        actual = kind_of(name, value)
        same = {"curve": "numbers", "curves": "table"}.get(kind, kind)
        if value is not None and value != [] and actual != same:
            raise TypeError(f"the measure {owner} returned {actual} in the column {name!r}, which holds {kind}")
    return row


def arrow_schema(columns: Mapping[str, Kind], metadata: Mapping[str, str]) -> Any:
    """Make the schema of the Parquet files.

    Args:
        columns: Kinds by name.
        metadata: Stored in each file.

    Returns:
        A pyarrow Schema.
    """
    import pyarrow as pa

    types: dict[str, pa.DataType] = {
        "flag": pa.bool_(),
        "number": pa.float64(),
        "text": pa.string(),
        "bytes": pa.binary(),
        "integer": pa.int64(),
        "numbers": pa.list_(pa.float64()),
        "texts": pa.list_(pa.string()),
        "curve": pa.list_(pa.float32()),
        "curves": pa.list_(pa.list_(pa.float32())),
        "table": pa.list_(pa.list_(pa.float64())),
    }
    assert types.keys() == set(get_args(Kind))
    return pa.schema([(name, types[kind]) for name, kind in columns.items()], metadata=dict(metadata))


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
