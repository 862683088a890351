"""Filters the rows of a study by column: what each column can be filtered by, and which rows pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.arguments import did_you_mean, shorten
from diffvis_widget.studies.columns import Kind
from diffvis_widget.studies.series import NUMERIC, curve_array

MOST_CHOICES = 40
"""Texts that a column may have to be filtered by a list of them; one with more is searched."""
_MOST_NUMBERS = 12  # integers that are chosen one by one
OUTCOME, NO_VALUE = ("finished", "failed"), "–"
_HIDDEN = frozenset(
    {"row", "id", "settings", "fingerprint", "run_prompt", "words", "roles", "timesteps", "sigmas", "trace_file"}
    | {"thumbnail", "scores_concepts", "scores_share", "decision_concepts", "decision_switch", "decision_cosine"}
)
Filters = dict[str, Any]


@dataclass(frozen=True)
class FilterColumn:
    """A column and what it can be filtered by.

    Attributes:
        kind: "choice" of a few texts, "number" in a range, or "text" that is searched.
        label: What is shown.
        values: int64 (n,), indices into the choices, or the texts that are searched; float64 (n,) of a number.
        choices: Of a choice; of a text, the different texts in lower case.
        low: Least value of a number.
        high: Its largest value.
    """

    kind: Literal["choice", "number", "text"]
    label: str
    values: NDArray[Any]
    choices: list[str] = field(default_factory=list[str])
    low: float = 0.0
    high: float = 0.0

    def describe(self, name: str) -> dict[str, Any]:
        """Describe it as JSON for the page.

        Args:
            name: Name of the column.

        Returns:
            Plain values.
        """
        entry = {"name": name, "label": self.label, "kind": self.kind, "choices": self.choices}
        return entry | {"low": self.low, "high": self.high}

    def checked(self, name: str, value: Any) -> Any:
        """Check a filter of this column.

        Args:
            name: Name of the column, for the error.
            value: Texts of a choice, [low, high] of a number, a text to search for.

        Returns:
            Plain values.

        Raises:
            ValueError: It is another value.
        """
        if self.kind == "choice":
            if isinstance(value, list | tuple) and value and all(choice in self.choices for choice in value):
                return list(dict.fromkeys(value))
            raise ValueError(f"filters: {name} must be a list of some of {self.choices}, not {shorten(value)}")
        if self.kind == "text":
            if isinstance(value, str) and value:
                return value
            raise ValueError(f"filters: {name} must be a text to search for, not {shorten(value)}")
        ends = list(value) if isinstance(value, list | tuple) and len(value) == 2 else [""]
        plain = [None if end is None else _number(end) for end in ends]
        if any(end is not None and not np.isfinite(end) for end in plain):
            raise ValueError(f"filters: {name} must be [lowest, highest], numbers or None, not {shorten(value)}")
        return plain

    def passes(self, value: Any) -> NDArray[np.bool_]:
        """Find the rows that pass a filter.

        Args:
            value: What `checked` returned.

        Returns:
            bool (n,).
        """
        if self.kind == "choice":
            return np.isin(self.values, [self.choices.index(choice) for choice in value])
        if self.kind == "text":
            contains = np.array([value.casefold() in text for text in self.choices], dtype=bool)
            return contains[self.values]
        low, high = (-np.inf if value[0] is None else value[0]), (np.inf if value[1] is None else value[1])
        return (self.values >= low) & (self.values <= high)


def filter_columns(table: Any, columns: Mapping[str, Kind]) -> dict[str, FilterColumn]:
    """List what a study can be filtered by.

    Args:
        table: Its table, a pyarrow Table.
        columns: Kinds by column.

    Returns:
        By column; those without a value, and with the same value in all rows, are left out.
    """
    result: dict[str, FilterColumn] = {}
    for name, kind in columns.items():
        if name in _HIDDEN:
            continue
        if name == "error":
            failed = ~table.column(name).combine_chunks().is_null().to_numpy(zero_copy_only=False)
            column = FilterColumn("choice", "outcome", failed.astype(np.int64), list(OUTCOME))
        elif kind == "text":
            column = _of_texts(name, table.column(name))
        elif kind == "flag":
            values = [{True: "true", False: "false", None: NO_VALUE}[flag] for flag in table.column(name).to_pylist()]
            column = _choice(name, values)
        elif kind == "integer" or kind in NUMERIC:
            column = _of_numbers(name, kind, table)
        else:
            continue
        if column is not None and (column.kind != "choice" or len(np.unique(column.values)) > 1):
            result[name] = column
    return result


def check_filters(columns: Mapping[str, FilterColumn], filters: Any) -> Filters:
    """Check filters.

    Args:
        columns: What the study can be filtered by.
        filters: By column; see `FilterColumn.checked`.

    Returns:
        Plain values.

    Raises:
        TypeError: They are no dictionary.
        ValueError: There is no such column, or its filter is another value.
    """
    if not isinstance(filters, Mapping):
        raise TypeError(f"filters must be values by column, not {shorten(filters)}")
    for name in filters:
        if name not in columns:
            hint = did_you_mean(name, list(columns))
            raise ValueError(f"filters: this study cannot be filtered by {shorten(name)}{hint}; by {list(columns)}")
    return {name: columns[name].checked(name, value) for name, value in filters.items()}


def passing(columns: Mapping[str, FilterColumn], filters: Filters, rows: int) -> NDArray[np.bool_]:
    """Find the rows that pass all filters.

    Args:
        columns: What the study can be filtered by.
        filters: What `check_filters` returned.
        rows: Number of rows.

    Returns:
        bool (rows,).
    """
    result = np.ones(rows, dtype=bool)
    for name, value in filters.items():
        result &= columns[name].passes(value)
    return result


def codes_of(column: Any) -> tuple[NDArray[np.int64], list[str]]:
    """Number the different texts of a column.

    Args:
        column: A pyarrow column of texts.

    Returns:
        int64 (n,) and the texts in order of their first appearance; None counts as "–".
    """
    encoded = column.combine_chunks().fill_null(NO_VALUE).dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def _of_texts(name: str, column: Any) -> FilterColumn:
    codes, texts = codes_of(column)
    if name != "prompt" and len(texts) <= MOST_CHOICES:
        return FilterColumn("choice", name, codes, texts)
    return FilterColumn("text", name, codes, [text.casefold() for text in texts])


def _choice(name: str, values: list[str]) -> FilterColumn:
    choices = sorted(set(values))
    return FilterColumn("choice", name, np.array([choices.index(value) for value in values], dtype=np.int64), choices)


def _of_numbers(name: str, kind: Kind, table: Any) -> FilterColumn | None:
    if kind == "integer" and len(different := np.unique(table.column(name).to_numpy())) <= _MOST_NUMBERS:
        codes = np.searchsorted(different, table.column(name).to_numpy())
        return FilterColumn("choice", name, codes, [str(number) for number in different.tolist()])
    if kind in ("integer", "number"):
        values = table.column(name).to_numpy().astype(np.float64)
    else:
        curves = curve_array(table, name)
        if curves is None:
            return None
        values = curves.mean(axis=1)
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.min() == finite.max():
        return None
    label = name if kind in ("integer", "number") else f"{name}, mean"
    return FilterColumn("number", label, values, low=float(finite.min()), high=float(finite.max()))


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else float("nan")
