"""Compares two conditions of a study: in pairs of the same prompt and seed, over prompts, corrected for many tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.intervals import bootstrap_mean, holm
from diffvis_widget.traces.html_summary import card, number, text
from diffvis_widget.traces.values import ResultValue, as_array, data_frame

from .series import By, Doubles, Reduction, curves_of, items_of, reduced

_ROUNDING = 8 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False, repr=False)
class PairedComparison(ResultValue):
    """Differences between two conditions of a study. Made by `Study.compare`.

    Attributes:
        a: Name of the first condition.
        b: Name of the second one.
        names: K measures, with the word, role or concept where they were divided.
        prompts: P prompts.
        differences: float64 (K, P), mean over the seeds of b - a; NaN where a prompt has no such pair.
        mean: float64 (K,), mean over the prompts.
        interval: float64 (K, 2), its 95 % interval over prompts like these, by the bootstrap; from -inf to inf for
            fewer than eight prompts.
        p: float64 (K,), p-values for a mean of 0; NaN where there is no test: for fewer than eight prompts, and for
            equal differences.
        p_adjusted: float64 (K,), the same, corrected for the number of tests by Holm's method.

    Example:
        >>> import numpy as np
        >>> result = dv.PairedComparison.of("plain", "strong", ["overlap"], ["a circle"], np.array([[0.5]]))
        >>> result.mean.tolist(), result.p_adjusted.tolist()
        ([0.5], [nan])
    """

    a: str
    b: str
    names: list[str]
    prompts: list[str]
    differences: Doubles
    mean: Doubles
    interval: Doubles
    p: Doubles
    p_adjusted: Doubles

    @classmethod
    def of(cls, a: str, b: str, names: list[str], prompts: list[str], differences: Doubles) -> PairedComparison:
        """Make a comparison of differences.

        Args:
            a: Name of the first condition.
            b: Name of the second one.
            names: K names.
            prompts: P prompts.
            differences: float64 (K, P).

        Returns:
            The comparison.
        """
        bounds = np.array([bootstrap_mean(row) for row in differences]).reshape(-1, 3)
        counts = (~np.isnan(differences)).sum(axis=1)
        means = np.where(counts > 0, np.nansum(differences, axis=1) / np.maximum(counts, 1), np.nan)
        p = np.where(np.isfinite(bounds[:, 0]), bounds[:, 2], np.nan)
        return cls(a, b, names, prompts, differences, means, bounds[:, :2], p, holm(p))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return as_array(self.mean, dtype, copy)

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 (K,), number of prompts with a pair."""
        return (~np.isnan(self.differences)).sum(axis=1)

    def _repr_html_(self) -> str:
        heads = ("measure", f"{self.b} - {self.a}", "95 % interval", "p, corrected", "prompts")
        rows = "".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in self.rows())
        head = "".join(f'<th style="text-align:left;padding-right:12px">{text(name)}</th>' for name in heads)
        note = "Bootstrap over prompts; Holm's correction for all tests of this table."
        return card("Paired comparison", (f"{self.a} and {self.b}", note), f"<table><tr>{head}</tr>{rows}</table>")

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Write the comparison as texts.

        Returns:
            For each measure: name, mean difference, interval, corrected p-value and number of prompts.
        """
        return [
            (
                name,
                number(float(mean)),
                f"{number(float(low))} to {number(float(high))}" if np.isfinite([low, high]).all() else "–",
                f"{p:.2g}" if np.isfinite(p) else "–",
                str(count),
            )
            for name, mean, (low, high), p, count in zip(
                self.names, self.mean, self.interval, self.p_adjusted, self.counts, strict=True
            )
        ]

    def to_pandas(self) -> Any:
        """Make a table with a row for each measure. It needs pandas.

        Returns:
            A pandas DataFrame.
        """
        columns = {"mean": self.mean, "low": self.interval[:, 0], "high": self.interval[:, 1], "p": self.p}
        columns |= {"p_adjusted": self.p_adjusted, "prompts": self.counts}
        return data_frame(columns, self.names, "measure")


def compare_conditions(
    table: Any, a: str, b: str, measures: Sequence[str], by: By | None, reduce: Reduction
) -> PairedComparison:
    """Compare two conditions.

    Args:
        table: A pyarrow Table with prompt, seed, condition, the measures and the names of their items.
        a: Name of the first condition.
        b: Name of the second one.
        measures: Names of columns.
        by: Divides each measure, or None.
        reduce: How a curve becomes one number.

    Returns:
        The comparison.
    """
    wanted: list[tuple[str, By | None, str | None]] = [
        (measure, by, item) for measure in measures for item in items_of(table, by)
    ]
    return compare_columns(table, a, b, wanted, reduce)


def compare_columns(
    table: Any, a: str, b: str, wanted: Sequence[tuple[str, By | None, str | None]], reduce: Reduction
) -> PairedComparison:
    """Compare two conditions in columns that are divided differently.

    Args:
        table: A pyarrow Table with prompt, seed, condition, the columns and the names of their items.
        a: Name of the first condition.
        b: Name of the second one.
        wanted: A column, what divides it, and one item of that; or the column, None and None.
        reduce: How a curve becomes one number.

    Returns:
        The comparison.
    """
    prompts = table.column("prompt").to_pylist()
    pairs = list(zip(prompts, table.column("seed").to_pylist(), strict=True))
    conditions = np.array(table.column("condition").to_pylist(), dtype=object)
    distinct = list(dict.fromkeys(prompts))
    names: list[str] = []
    rows: list[list[float]] = []
    for measure, by, item in wanted:
        values = np.array([reduced(curve, reduce) for curve in curves_of(table, measure, by, item)])
        sides = [{pairs[row]: values[row] for row in np.flatnonzero(conditions == condition)} for condition in (a, b)]
        by_prompt: dict[str, list[float]] = {prompt: [] for prompt in distinct}
        for pair, value in sides[0].items():
            if np.isfinite(difference := _difference(value, sides[1].get(pair, np.nan))):
                by_prompt[pair[0]].append(difference)
        names.append(measure if item is None else f"{measure}: {item}")
        rows.append([float(np.mean(values)) if values else np.nan for values in by_prompt.values()])
    return PairedComparison.of(a, b, names, distinct, np.array(rows, dtype=np.float64).reshape(len(names), -1))


def _difference(a: float, b: float) -> float:
    """B - a, or 0 where that is not more than the rounding of the stored float32 values."""
    difference = b - a
    return 0.0 if abs(difference) <= _ROUNDING * max(abs(a), abs(b)) else difference


def correct_together(comparisons: Sequence[PairedComparison]) -> list[PairedComparison]:
    """Correct the p-values of several comparisons for all their tests.

    Args:
        comparisons: The comparisons.

    Returns:
        The same, with other `p_adjusted`.
    """
    corrected = holm(np.concatenate([comparison.p for comparison in comparisons])) if comparisons else np.zeros(0)
    ends = np.cumsum([len(comparison.p) for comparison in comparisons])
    return [
        replace(comparison, p_adjusted=corrected[end - len(comparison.p) : end])
        for comparison, end in zip(comparisons, ends, strict=True)
    ]
