"""A study in the notebook: the grid of images, a chart and a run, linked."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ipywidgets import HBox, VBox

from diffvis_widget.arguments import row_index
from diffvis_widget.studies.manifest import Manifest, restored_plan
from diffvis_widget.studies.parts import read_parts
from diffvis_widget.studies.prompts import PromptRow
from diffvis_widget.traces import Trace
from diffvis_widget.widget import jupyter

from .curve_chart import CurveChart
from .filters import Filters, check_filters, codes_of, filter_columns, passing
from .grid import StudyGrid
from .run_panel import RunPanel
from .thumbnails import Thumbnails

_SHEET = 24
_UNREAD = frozenset({"thumbnail", "settings", "timesteps", "sigmas", "decision_cosine"})


class StudyView(HBox):
    """A study in the notebook. `Study.show` makes it.

    Args:
        folder: The folder of the study.
        manifest: Its description.
        prompts: Its prompts.
        trace: Opens the trace file of a row.
        model: As for `Study.show`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     study = dv.study(
        ...         None, ["a red circle"], seeds=3, measures=["attention"], out=folder, progress=False,
        ...         num_inference_steps=2,
        ...     )
        ...     view = study.show()
        ...     view.filters = {"seed": ["1", "2"]}
        ...     view.rows
        [1, 2]
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        prompts: Sequence[PromptRow],
        trace: Callable[[int], Trace],
        model: Any = None,
    ) -> None:
        names = [name for name in manifest.columns if name not in _UNREAD]
        self._table = read_parts(folder, manifest.columns, manifest.study, names)
        self._rows = self._table.column("row").to_numpy()
        self._places = {int(row): place for place, row in enumerate(self._rows)}
        self._columns = filter_columns(self._table, manifest.columns)
        self._has_trace = ~self._table.column("trace_file").combine_chunks().is_null().to_numpy(zero_copy_only=False)
        self._thumbnails = Thumbnails(folder, manifest.columns, manifest.study)
        self._indices = np.arange(len(self._rows))
        self._trace = trace
        self.grid = StudyGrid(*self._described(), self._thumbnails, self._checked)
        callbacks = self._mark_region, self._toggle_group, lambda column: self.grid.filters.get(column)
        self.chart = CurveChart(self._table, manifest.columns, self._columns, *callbacks)
        is_known = model is not None or bool(manifest.about["model_is_named"])
        self.panel = RunPanel(
            lambda: restored_plan(manifest, prompts),
            manifest.settings["threads"],
            manifest.about["model"] if model is None else model,
            is_known,
            self._kept,
        )
        left = VBox([self.grid, self.chart], layout={"flex": "1 1 460px", "min_width": "300px"})
        super().__init__([left, self.panel], layout={"flex_flow": "row wrap", "width": "100%"})
        self.grid.observe(lambda _: self._update(), ["filters", "region"])
        self.grid.observe(lambda change: self.chart.mark(self._places.get(change["new"], -1)), "active")
        self.grid.observe(lambda change: self._open(change["new"]), "opened")
        self.grid.show(self._indices)

    @property
    def filters(self) -> Filters:
        """Filters by column; set them to show fewer rows.

        A column of few texts takes a list of some, one of numbers (lowest, highest) with None for no end, and the
        prompt a text to search for: {"condition": ["early"], "scores_cosine": (0.2, None), "prompt": "circle"}.
        """
        return dict(self.grid.filters)

    @filters.setter
    def filters(self, filters: Mapping[str, Any]) -> None:
        self.grid.filters = self._checked(filters)

    @property
    def rows(self) -> list[int]:
        """Numbers of the rows that are shown, for `Study.table` and others."""
        return self._rows[self._indices].tolist()

    @property
    def opened(self) -> int | None:
        """Number of the row whose run is open; None for none."""
        return None if self.grid.opened < 0 else self.grid.opened

    def open_run(self, row: int) -> None:
        """Open the run of a row beside the grid, as a click on its image does.

        Args:
            row: Its number.

        Raises:
            TypeError: The number is no integer.
            IndexError: The row is not stored.
        """
        if row_index("row", row, int(self._rows.max(initial=-1)) + 1) not in self._places:
            raise IndexError(f"row {row} is not stored; the column row of Study.table() has the numbers that are")
        self.grid.opened = row

    def close(self) -> None:
        """End a run under way, and close all widgets."""
        self.panel.close()
        self.grid.close()
        super().close()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        if bundle is not None and jupyter.is_unattended():
            bundle["text/html"] = self._sheet()
        return bundle

    def _checked(self, filters: Any) -> Filters:
        return check_filters(self._columns, filters)

    def _described(self) -> tuple[dict[str, Any], list[Any]]:
        """What the page needs to know of all rows."""
        prompts, texts = codes_of(self._table.column("prompt"))
        conditions, names = codes_of(self._table.column("condition"))
        errors = self._table.column("error").to_pylist()
        failed = {str(row): text for row, text in zip(self._rows.tolist(), errors, strict=True) if text is not None}
        described = [column.describe(name) for name, column in self._columns.items()]
        for entry in described:
            entry["choices"] = entry["choices"] if entry["kind"] == "choice" else []
        table = {"prompts": texts, "conditions": names, "errors": failed, "columns": described}
        seeds = self._table.column("seed").to_numpy().astype(np.float64)
        return table, [self._rows.astype(np.int32), prompts.astype(np.int32), conditions.astype(np.int32), seeds]

    def _update(self) -> None:
        shown = passing(self._columns, self.grid.filters, len(self._rows))
        if self.grid.region:
            shown &= self.chart.inside(self.grid.region)
        else:
            self.chart.clear_region()
        self._indices = np.flatnonzero(shown)
        self.grid.show(self._indices)
        self.chart.show(self._indices)

    def _mark_region(self, region: dict[str, Any]) -> None:
        self.grid.region = region

    def _toggle_group(self, column: str, value: str) -> None:
        filters = self.filters
        if filters.get(column) == [value]:
            del filters[column]
        else:
            filters[column] = [value]
        self.grid.filters = filters

    def _kept(self, row: int) -> Trace | None:
        return self._trace(row) if self._has_trace[self._places[row]] else None

    def _open(self, row: int) -> None:
        place = self._places.get(row)
        if place is None:
            return
        values = {name: self._table.column(name)[place].as_py() for name in self._table.column_names}
        title = f"{values['prompt']} · seed {values['seed']} · {values['condition']}"
        stored = self._thumbnails.read([row])[0]
        self.panel.open_row(row, title, values["fingerprint"], stored, values.get("scores_concepts") or [])

    def _sheet(self) -> str:
        """The first images as HTML, for notebooks that a program executes."""
        rows = self.rows[:_SHEET]
        titles = zip(rows, self._thumbnails.read(rows), strict=True)
        images = "".join(
            f'<img width="96" style="border-radius:4px" title="row {row}" alt="{self._alternative(row)}" '
            f'src="data:image/webp;base64,{base64.b64encode(data).decode()}"> '
            for row, data in titles
            if data
        )
        return f"<div>{images}</div><p>{len(rows)} of {len(self.rows)} images; run the cell for the whole study.</p>"

    def _alternative(self, row: int) -> str:
        return html.escape(str(self._table.column("prompt")[self._places[row]].as_py()))
