"""Reads numbers and curves of a study's table: of words, of roles, of concepts, one value or one curve a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.arguments import choice, shorten

from .columns import Kind

Reduction = Literal["mean", "sum", "first", "last"]
By = Literal["word", "role", "concept"]
REDUCTIONS: tuple[Reduction, ...] = ("mean", "sum", "first", "last")
LABELS: dict[str, str] = {"word": "words", "role": "roles", "concept": "scores_concepts"}
"""The column that names the rows of a table of curves."""
NUMERIC: tuple[Kind, ...] = ("number", "flag", "numbers", "curve", "curves", "table")
Doubles = NDArray[np.float64]


def check_measure(columns: Mapping[str, Kind], measure: Any, by: Any) -> Kind:
    """Check the name of a measured column, and whether it can be divided.

    Args:
        columns: Kinds by column.
        measure: Name of the column.
        by: "word", "role", "concept" or None.

    Returns:
        Its kind.

    Raises:
        ValueError: There is no such column of numbers, or it has no words, roles or concepts.
    """
    numeric = [name for name, kind in columns.items() if kind in NUMERIC]
    choice("measure", measure, numeric)
    kind = columns[measure]
    if by is not None:
        choice("by", by, tuple(LABELS))
        is_scored = measure.startswith("scores_")
        if (kind != "curves" and measure != "scores_emergence") or is_scored != (by == "concept"):
            fitting = "concept" if is_scored else "word or role"
            raise ValueError(f"by={by!r} does not fit the column {measure!r}: divide per-word columns by {fitting}")
    return kind


def items_of(table: Any, by: By | None) -> list[str | None]:
    """List what a column can be divided by.

    Args:
        table: A pyarrow Table with the column of names.
        by: "word", "role", "concept" or None.

    Returns:
        The names in order of their first appearance; [None] without a division.
    """
    if by is None:
        return [None]
    lists = table.column(LABELS[by]).to_pylist()
    return list(dict.fromkeys(name for names in lists for name in names or () if name is not None))


def curves_of(table: Any, measure: str, by: By | None = None, item: str | None = None) -> list[Doubles | None]:
    """Read one curve of each row: the mean over the words, of an item or of all; of overlaps those with other words.

    Args:
        table: A pyarrow Table with the columns.
        measure: Name of a column of numbers, curves or tables of curves.
        by: What the item is.
        item: A word, role or concept; None for all.

    Returns:
        For each row float64 (T,), or (1,) of a number; None where the row has none.
    """
    labels = table.column(LABELS[by]).to_pylist() if by else [None] * table.num_rows
    values = table.column(measure).to_pylist()
    if measure == "overlap":
        values = [_with_others(value) for value in values]
    return [_curve(value, names, item) for value, names in zip(values, labels, strict=True)]


def _with_others(overlap: Any) -> list[list[float]] | None:
    """The mean overlap of each word with the others; that with itself is 1, and says nothing."""
    if overlap is None or len(overlap) < 2:
        return None
    others = (np.sum(overlap, axis=1) - np.diag(overlap)) / (len(overlap) - 1)
    return others[:, None].tolist()


def _curve(value: Any, names: Sequence[str | None] | None, item: str | None) -> Doubles | None:
    if value is None:
        return None
    if not isinstance(value, list):
        return np.array([value], dtype=np.float64)
    if item is not None:
        value = [part for part, name in zip(value, names or (), strict=True) if name == item]
    if not value:
        return None
    array = np.array(value, dtype=np.float64)
    return array if array.ndim == 1 and item is None else array.mean(axis=0, keepdims=array.ndim == 1)


def reduced(curve: Doubles | None, reduce: Reduction) -> float:
    """Reduce a curve to one number.

    Args:
        curve: float64 (T,), or None.
        reduce: "mean", "sum", "first" or "last" step.

    Returns:
        The number; NaN without a curve.
    """
    if curve is None or not len(curve):
        return float("nan")
    if reduce in ("first", "last"):
        return float(curve[0 if reduce == "first" else -1])
    return float(curve.mean() if reduce == "mean" else curve.sum())


def check_reduce(reduce: Any) -> Reduction:
    """Check how a curve becomes a number.

    Args:
        reduce: The name of a reduction.

    Returns:
        The same.

    Raises:
        ValueError: There is no such reduction.
    """
    if reduce not in REDUCTIONS:
        raise ValueError(f"reduce must be one of {', '.join(map(repr, REDUCTIONS))}, not {shorten(reduce)}")
    return reduce


def curve_array(table: Any, measure: str, by: By | None = None, item: str | None = None) -> Doubles | None:
    """Read one curve of each row as `curves_of` does, in one array.

    Args:
        table: A pyarrow Table with the columns.
        measure: Name of a column of curves or tables of curves.
        by: What the item is.
        item: A word, role or concept; None for all.

    Returns:
        float64 (n, T), NaN where a row has no curve of the usual length; None where no row has one.
    """
    curves = _even_curves(table, measure, by, item) if table.num_rows and measure != "overlap" else None
    if curves is None:
        ragged = curves_of(table, measure, by, item)
        lengths = [len(curve) for curve in ragged if curve is not None]
        if not lengths:
            return None
        steps = max(set(lengths), key=lengths.count)
        nothing = np.full(steps, np.nan)
        curves = np.array([nothing if curve is None or len(curve) != steps else curve for curve in ragged])
    return curves


def _even_curves(table: Any, measure: str, by: By | None, item: str | None) -> Doubles | None:
    """The same without a loop over the rows, where all curves have the same length; else None."""
    column = table.column(measure).combine_chunks()
    lists, counts, chosen = column, None, None
    if _is_nested(column.type):
        counts = _lengths(column)
        lists = column.flatten()
        if by is not None:
            labels = table.column(LABELS[by]).combine_chunks()
            if not np.array_equal(_lengths(labels), counts):
                return None
            names = labels.flatten().to_pylist()
            chosen = np.array([name == item for name in names]) if item is not None else None
    elif item is not None:
        return None
    lengths = _lengths(lists)
    steps = int(lengths.max()) if len(lengths) else 0
    if not steps or not (lengths[lengths > 0] == steps).all() or (counts is not None and (lengths == 0).any()):
        return None
    values = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, steps)
    rows = np.flatnonzero(lengths) if counts is None else np.repeat(np.arange(len(counts)), counts)
    if chosen is not None:
        values, rows = values[chosen], rows[chosen]
    sums = np.zeros((table.num_rows, steps))
    np.add.at(sums, rows, values)
    totals = np.bincount(rows, minlength=table.num_rows)[:, None].astype(np.float64)
    return np.divide(sums, totals, out=np.full_like(sums, np.nan), where=totals > 0)


def _is_nested(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) and pa.types.is_list(kind.value_type)


def _lengths(column: Any) -> NDArray[np.int64]:
    import pyarrow.compute

    compute: Any = pyarrow.compute  # whose functions its types do not list
    return compute.fill_null(compute.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
