"""What a study's columns say: which of them can be compared between conditions, divided by what, and in which words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .columns import Kind
from .series import LABELS, NUMERIC, By

_MOST_ITEMS = 6
NO_CURVES = frozenset({"overlap", "scores_emergence", "decision_share", "decision_switch", "decision_cosine"})
"""Lists of numbers that are no curves over the steps: of words, of concepts, of the points of a decision curve."""
_NOT_COMPARED = frozenset(
    {"scores_null_low", "scores_null_high", "decision_share", "decision_switch", "decision_cosine"}
)
_NOTES = {
    "scores_cosine": "cosine of the predicted image and the concept",
    "scores_share": "share of the concept among those scored",
    "scores_emergence": "step, counted from 0, at which the concept emerges; of runs in which it does",
    "attention_mass": "mean attention probability of a word",
    "attention_entropy": "spread of a word's map: 0 one position, 1 even",
    "overlap": "overlap of the maps of two words, 0 to 1",
    "relevance_raw": "relevance of a word, propagated through all attention layers",
    "relevance_scaled": "relevance of a word, scaled by step",
    "decision_step": "step, counted from 0, from which on another word no longer changes the image",
    "divergence_distance": "distance of the predictions from those of {base}",
    "divergence_step": "step, counted from 0, from which on the run differs from that of {base}; of runs that do",
    "divergence_image": "mean difference of the final image from that of {base}",
}


@dataclass(frozen=True)
class Quantity:
    """A measured column, or the part of it that belongs to a concept or role.

    Attributes:
        column: Name of the column.
        kind: What it holds.
        by: What divides it, or None.
        item: The concept or role, or None.
        base: The condition that it compares with, of a divergence; it is 0 there by construction. None of others.
    """

    column: str
    kind: Kind
    by: By | None = None
    item: str | None = None
    base: str | None = None

    @property
    def name(self) -> str:
        """The column, with the item."""
        return self.column if self.item is None else f"{self.column}: {self.item}"

    @property
    def note(self) -> str:
        """What it is, in a few words; "" for a measure that is not built in."""
        return _NOTES.get(self.column, "").format(base=self.base)

    @property
    def has_steps(self) -> bool:
        """Whether it may be a curve over the steps."""
        return self.kind not in ("number", "flag") and self.column not in NO_CURVES


def quantities_of(
    table: Any, columns: Mapping[str, Kind], about: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[Quantity]:
    """List what a report shows: the measured columns that differ between conditions for a reason.

    Columns of scores are divided by concept where every row was scored for the same few ones, columns of words by role
    where the prompts name few. Left out are the shares of concepts that change from row to row, whose mean is 1 over
    their number, the null band, which is about unrelated words, and the points of decision curves.

    Args:
        table: The table, a pyarrow Table.
        columns: Kinds by column.
        about: What the study stores about itself.
        settings: Its settings.

    Returns:
        The quantities, in order of the columns.
    """
    measured = {name for names in about["measure_columns"].values() for name in names}
    base = base_of(settings)
    result: list[Quantity] = []
    for name, kind in columns.items():
        if name not in measured or kind not in NUMERIC or name in _NOT_COMPARED:
            continue
        by = _division(name, kind)
        items = _items(table, by)
        if items:
            result += [Quantity(name, kind, by, item) for item in items]
        elif name != "scores_share":
            result.append(Quantity(name, kind, base=base if name.startswith("divergence_") else None))
    return result


def base_of(settings: Mapping[str, Any]) -> str:
    """Look up the condition with which the measure "divergence" compares.

    Args:
        settings: Settings of a study.

    Returns:
        Its name.
    """
    options = [measure["options"] for measure in settings["measures"] if measure["name"] == "divergence"]
    return (options[0].get("base") if options else None) or next(iter(settings["conditions"]))


def check_comparable(settings: Mapping[str, Any], measure: str, by: By | None, a: str, b: str) -> None:
    """Refuse comparisons whose result is known before the study.

    Args:
        settings: Settings of the study.
        measure: Name of a column.
        by: What divides it, or None.
        a: Name of a condition.
        b: Name of another one.

    Raises:
        ValueError: The mean of the column is constant by construction, or one of the conditions is what it compares
            with.
    """
    if measure == "scores_share" and by is None:
        raise ValueError(
            "measure: the shares of a run's concepts sum to 1 at each step, so that their mean is the same for all "
            "runs; add by='concept'"
        )
    if measure.startswith("divergence_") and base_of(settings) in (a, b) and _is_builtin(settings, "divergence"):
        raise ValueError(
            f"measure: {measure} is measured from {base_of(settings)!r}, where it is 0 by construction; its means are "
            "in the table and the report. Compare two other conditions, or other columns"
        )


def _is_builtin(settings: Mapping[str, Any], name: str) -> bool:
    return any(measure["name"] == name and "function" not in measure for measure in settings["measures"])


def _division(name: str, kind: Kind) -> By | None:
    if name.startswith("scores_"):
        return "concept"
    return "role" if kind == "curves" else None


def _items(table: Any, by: By | None) -> list[str]:
    if by is None:
        return []
    lists = [names for names in table.column(LABELS[by]).to_pylist() if names is not None]
    items = list(dict.fromkeys(name for names in lists for name in names if name is not None))
    if len(items) > _MOST_ITEMS or (by == "concept" and any(set(names) != set(items) for names in lists)):
        return []
    return items
