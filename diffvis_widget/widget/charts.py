"""bqplot figures that belong to a DiffVis and stay in step with it."""

from __future__ import annotations

from typing import Any

import numpy as np
from bqplot.axes import Axis
from bqplot.figure import Figure
from bqplot.interacts import IndexSelector
from bqplot.marks import Lines
from bqplot.scales import LinearScale

from diffvis_widget.widget.stream import Scores
from diffvis_widget.widget.widget import DiffVis

_BAND = "#8a8f98"
_LINE = "#8a8f98"


def concept_chart(widget: DiffVis) -> Figure:
    """The concept curves of a widget's run: cosine over steps, a line at the step that is shown, and the null band.

    The chart grows while the run goes on and starts anew with the next. The line is linked both ways: click into the
    chart, move, and click again to move ``widget.step``; the line follows when the widget moves.

    Raises:
        TypeError: ``widget`` is no DiffVis.
    """
    if not isinstance(widget, DiffVis):
        raise TypeError(f"concept_chart needs a DiffVis, got {type(widget).__name__}")
    last = max(widget.steps - 1, 1)
    across = LinearScale(min=0, max=last)
    up = LinearScale()
    scales = {"x": across, "y": up}
    band = Lines(
        x=[], y=[[], []], scales=scales, fill="between", fill_colors=[_BAND], fill_opacities=[0.25], opacities=[0, 0]
    )
    curves = Lines(x=[], y=[], scales=scales, display_legend=True, stroke_width=2)
    selector = IndexSelector(scale=across, marks=[curves], color=_LINE, line_width=2)
    axes = [
        Axis(scale=across, label="step", tick_format="d", grid_lines="none"),
        Axis(scale=up, label="cosine", side="left", tick_format=".2f"),
    ]
    figure = Figure(
        marks=[band, curves],
        axes=axes,
        interaction=selector,
        title="Concepts over steps (band: what unrelated words score)",
        legend_location="top-left",
        fig_margin={"top": 50, "bottom": 45, "left": 60, "right": 20},
        layout={"height": "320px", "min_width": "300px"},
    )
    figure.title_style = {"font-size": "13px"}

    def draw(scores: Scores) -> None:
        nonlocal last
        steps = np.arange(len(scores.cosine))
        last = max(widget.steps - 1, len(steps) - 1, 1)
        across.max = last
        if len(steps) < 2:  # bqplot takes a table with one column for one curve
            curves.x, curves.y, band.x, band.y = [], [], [], [[], []]
            return
        with band.hold_sync():
            band.x, band.y = steps, scores.null.T
        with curves.hold_sync():
            curves.x, curves.labels = steps, scores.concepts
            curves.y = scores.cosine.T if scores.concepts else []

    def follow(_: Any) -> None:
        if _step_of(selector.selected) != widget.step:
            selector.selected = np.array([float(widget.step)])

    def lead(_: Any) -> None:
        step = _step_of(selector.selected)
        if step is not None and step != widget.step:
            widget.step = min(step, last)

    widget.observe(follow, "step")
    selector.observe(lead, "selected")
    follow(None)
    widget.observe_scores(draw)
    return figure


def _step_of(selected: Any) -> int | None:
    """The step nearest to where the line is; None where there is no line."""
    return None if selected is None or len(selected) == 0 else max(0, round(float(selected[0])))
