"""The chart of a study: the mean of any measure over the steps, with its interval, for each group of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from bqplot.axes import Axis
from bqplot.figure import Figure
from bqplot.interacts import BrushSelector
from bqplot.marks import Lines
from bqplot.scales import LinearScale
from ipywidgets import HTML, Dropdown, HBox, ToggleButton, VBox
from numpy.typing import NDArray

from diffvis_widget.step_numbers import step_number
from diffvis_widget.studies.charts import COLOURS, GroupCurve, group_curves, round_ticks
from diffvis_widget.studies.columns import BASE, Kind
from diffvis_widget.studies.quantities import NO_CURVES
from diffvis_widget.studies.series import LABELS, By, Doubles, curve_array

from .filters import FilterColumn

_FIRST = step_number(0)
_MOST_GROUPS, _TICKS = 10, 11
_OWN = "#8a8f98"
_DIVISIONS: tuple[By, ...] = ("word", "role", "concept")
_NOTE = "Means over prompts; bands: 95 % intervals over prompts, from eight on. Drag over curves to keep their rows."
_DASHED = " Dashed: the chosen image."


class CurveChart(VBox):
    """Curves over the steps.

    Args:
        table: The table of the study, a pyarrow Table.
        columns: Kinds by column.
        filters: What the study can be filtered by.
        on_region: Called with a region of the chart that the user marked, {} for none.
        on_group: Called with a column and a value that the user chose.
        chosen: Returns the filter of a column, None for none.

    Attributes:
        measure: Chooses the measure.
        group: Chooses what the rows are grouped by.
    """

    measure: Any
    group: Any

    def __init__(
        self,
        table: Any,
        columns: Mapping[str, Kind],
        filters: Mapping[str, FilterColumn],
        on_region: Callable[[dict[str, Any]], None],
        on_group: Callable[[str, str], None],
        chosen: Callable[[str], Any],
    ) -> None:
        self._table, self._filters = table, filters
        self._on_region, self._on_group, self._chosen = on_region, on_group, chosen
        self._prompts = table.column("prompt").to_pylist()
        self._indices: NDArray[np.int64] = np.arange(table.num_rows)
        self._active = -1
        self._curves: dict[tuple[str, str | None, str | None], Doubles | None] = {}
        self.measures = [
            name for name, kind in columns.items() if _has_steps(name, kind) and self._all(name) is not None
        ]
        self._kinds = columns
        small = {"description_width": "auto"}
        self.measure = Dropdown(
            options=self.measures, description="Measure", style=small, layout={"max_width": "260px"}
        )
        self.group = Dropdown(description="by", style=small, layout={"max_width": "200px"})
        self._scales = {"x": LinearScale(), "y": LinearScale()}
        self._brush = BrushSelector(x_scale=self._scales["x"], y_scale=self._scales["y"], color=_OWN)
        self._figure = Figure(
            axes=[
                Axis(scale=self._scales["x"], label="step", label_color=_OWN, tick_format="d", grid_lines="none"),
                Axis(scale=self._scales["y"], side="left", tick_format=".6~g"),
            ],
            fig_margin={"top": 12, "bottom": 40, "left": 58, "right": 14},
            layout={"height": "250px", "min_width": "260px", "width": "100%"},
            interaction=self._brush,
        )
        self._own = Lines(x=[], y=[], scales=self._scales, colors=[_OWN], line_style="dashed", stroke_width=2)
        self._keys = HBox(layout={"flex_flow": "row wrap"})
        bar = HBox([self.measure, self.group], layout={"flex_flow": "row wrap"})
        self._note = HTML(_small(_NOTE))
        parts = [bar, self._keys, self._figure, self._note] if self.measures else []
        super().__init__(parts, layout={"padding": "0 12px"})
        if self.measures:
            self._set_groups()
            self.measure.observe(self._on_measure, "value")
            self.group.observe(lambda _: self.draw(), "value")
            self._brush.observe(self._on_brush, "brushing")
            self.draw()

    def show(self, indices: NDArray[np.int64]) -> None:
        """Draw these rows only.

        Args:
            indices: int64 (n,), places in the table.
        """
        self._indices = indices
        self.draw()

    def mark(self, index: int) -> None:
        """Draw the curve of a row beside those of the groups.

        Args:
            index: Its place in the table; -1 for none.
        """
        self._active = index
        curves = self._all(self.measure.value) if self.measures else None
        curve = None if curves is None or index < 0 else curves[index]
        if curve is None or not np.isfinite(curve).all():
            self._own.x, self._own.y = [], []
            self._note.value = _small(_NOTE)
        else:
            self._note.value = _small(_NOTE + _DASHED)
            with self._own.hold_sync():
                self._own.x, self._own.y = np.arange(len(curve)) + _FIRST, curve
        marks: list[Any] = self._figure.marks
        values = np.concatenate([[], *(np.ravel(mark.y) for mark in marks)])
        if len(values):
            self._figure.axes[1].tick_values = np.array(round_ticks(float(values.min()), float(values.max())))

    def inside(self, region: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Find the rows whose curve passes through a region of the chart.

        Args:
            region: measure, steps and values, the latter two [lowest, highest].

        Returns:
            bool (n,) of all rows.
        """
        curves = self._all(region["measure"])
        assert curves is not None
        first, last = (round(step) - _FIRST for step in region["steps"])
        part = curves[:, max(first, 0) : last + 1]
        low, high = region["values"]
        return ((part >= low) & (part <= high)).any(axis=1)

    def clear_region(self) -> None:
        """Remove the marked region from the chart."""
        with self._brush.hold_sync():
            self._brush.selected_x, self._brush.selected_y = None, None

    def draw(self) -> None:
        """Draw the curves of the rows that are shown."""
        groups = self._groups()
        marks: list[Lines] = []
        for group, colour in zip(groups, _colours(groups), strict=True):
            steps = np.arange(len(group.mean)) + _FIRST
            bounds = np.stack([group.low, group.high])
            if np.isfinite(bounds).all():
                marks.append(
                    Lines(
                        x=steps, y=bounds, scales=self._scales, fill="between", fill_colors=[colour],
                        fill_opacities=[0.2], opacities=[0, 0], colors=[colour],
                    )
                )  # fmt: skip
            marks.append(Lines(x=steps, y=group.mean, scales=self._scales, colors=[colour], stroke_width=2.5))
        steps = max((len(group.mean) for group in groups), default=2)
        across = self._scales["x"]
        last = _FIRST + steps - 1
        across.min, across.max = _FIRST, last
        self._figure.axes[0].tick_values = step_ticks(last)
        self._figure.marks = [*marks, self._own]
        self._draw_keys(groups)
        self.mark(self._active)

    def _draw_keys(self, groups: Sequence[GroupCurve]) -> None:
        keys: list[ToggleButton] = []
        column = self._filters.get(self.group.value or "")
        for group, colour in zip(groups, _colours(groups), strict=True):
            key = ToggleButton(description=group.name, layout={"width": "auto", "border_left": f"5px solid {colour}"})
            key.value = column is not None and self._chosen(self.group.value) == [group.name]
            count = f"{group.prompts} prompt{'' if group.prompts == 1 else 's'}"
            key.tooltip = f"{group.name}: {count}" + (". Click to show only these rows" if column else "")
            key.disabled = column is None
            key.observe(lambda _, name=group.name: self._on_group(self.group.value, name), "value")
            keys.append(key)
        for old in self._keys.children:
            old.close()
        self._keys.children = keys

    def _groups(self) -> list[GroupCurve]:
        name, group = self.measure.value, self.group.value
        prompts = [self._prompts[index] for index in self._indices]
        if group in _DIVISIONS:
            result: list[GroupCurve] = []
            for item in self._frequent(group):
                result += group_curves(self._rows(name, group, item), [item] * len(prompts), prompts)
            return result
        column = self._filters.get(group)
        names = ["all rows"] * len(prompts)
        if column is not None:
            names = [column.choices[code] for code in column.values[self._indices]]
        return group_curves(self._rows(name), names, prompts)[:_MOST_GROUPS]

    def _frequent(self, by: By) -> list[str]:
        """The words, roles or concepts that the most rows have."""
        lists = self._table.column(LABELS[by]).take(self._indices).to_pylist()
        counts: Counter[str] = Counter(item for items in lists for item in set(items or ()) if item is not None)
        return [item for item, _ in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))][:_MOST_GROUPS]

    def _rows(self, name: str, by: By | None = None, item: str | None = None) -> list[Doubles | None]:
        curves = self._all(name, by, item)
        nothing: list[Doubles | None] = [None] * len(self._indices)
        return nothing if curves is None else list(curves[self._indices])

    def _all(self, name: str, by: By | None = None, item: str | None = None) -> Doubles | None:
        key = name, by, item
        if key not in self._curves:
            curves = curve_array(self._table, name, by, item)
            self._curves[key] = None if curves is None or curves.shape[1] < 2 else curves
        return self._curves[key]

    def _set_groups(self) -> None:
        name = self.measure.value
        few = [
            key for key, column in self._filters.items()
            if column.kind == "choice" and key != "error" and len(column.choices) <= _MOST_GROUPS
        ]  # fmt: skip
        divided: list[str] = []
        if self._kinds[name] == "curves":
            divided = ["concept"] if name.startswith("scores_") else ["word", "role"]
        options = [*(key for key in few if key != "seed"), "all rows", *divided, *(key for key in few if key == "seed")]
        if name == "scores_share":  # whose mean over the concepts of a run is always the same
            options = divided
        before = self.group.value
        self.group.options = options
        self.group.value = before if before in options else options[0]

    def _on_measure(self, _: Any) -> None:
        self._set_groups()
        self.draw()

    def _on_brush(self, change: Any) -> None:
        if change["new"]:
            return
        selected = self._brush.selected
        if selected is None or len(selected) == 0:
            self._on_region({})
            return
        (x0, y0), (x1, y1) = np.sort(np.asarray(selected, dtype=np.float64), axis=0)
        steps = [int(np.ceil(x0 - 0.5)), int(np.floor(x1 + 0.5))]
        self._on_region({"measure": self.measure.value, "steps": steps, "values": [float(y0), float(y1)]})


def _small(text: str) -> str:
    return f'<div style="font-size:11px;line-height:1.4;opacity:.75">{text}</div>'


def _has_steps(name: str, kind: Kind) -> bool:
    return kind in ("curve", "curves", "numbers", "table") and name not in NO_CURVES and name not in BASE


def step_ticks(last: int) -> NDArray[np.int64]:
    """Choose the numbers of an axis of steps.

    Args:
        last: Number of the last step.

    Returns:
        All steps where they are few; else the first one and round numbers.

    Example:
        >>> step_ticks(30).tolist()
        [1, 10, 20, 30]
    """
    if last - _FIRST < _TICKS:
        return np.arange(_FIRST, last + 1)
    return np.array([_FIRST, *(int(tick) for tick in round_ticks(_FIRST, last) if tick > _FIRST)])


def _colours(groups: Sequence[GroupCurve]) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(len(groups))]
