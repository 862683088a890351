"""bqplot figures that belong to a DiffVis and stay in step with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from bqplot.axes import Axis
from bqplot.figure import Figure
from bqplot.interacts import IndexSelector
from bqplot.marks import Lines
from bqplot.scales import LinearScale
from ipywidgets import HBox, ToggleButton, VBox

from diffvis_widget.wire.messages import ScoresPayload

from .widget import DiffVis

if TYPE_CHECKING:
    from diffvis_widget.intervene import DecisionCurve
    from diffvis_widget.traces import Trace

_BAND = "#8a8f98"
_LINE = "#8a8f98"
_ACCENT = "#2f6fdb"
# told apart without red against green, on light and on dark ground
_COLOURS = (
    "#2f6fdb",
    "#d9822b",
    "#2b9a8f",
    "#b0559d",
    "#8a7f1d",
    "#c2453d",
    "#6c6bd1",
    "#5f8f3a",
    "#7a6a5a",
    "#3a8fbf",
)


def concept_chart(widget: DiffVis) -> Figure:
    """The concept curves of a widget's run: cosine over steps, a line at the step that is shown, and the null band.

    The chart grows while the run goes on and starts anew with the next. The line is linked both ways: click into the
    chart, move, and click again to move ``widget.step``; the line follows when the widget moves.

    Raises:
        TypeError: ``widget`` is no DiffVis.
    """
    _check("concept_chart", widget)
    across = LinearScale(min=0, max=max(widget.steps - 1, 1))
    up = LinearScale()
    scales = {"x": across, "y": up}
    band = _band(scales)
    curves = Lines(x=[], y=[], scales=scales, display_legend=True, stroke_width=2)
    figure = _figure("Concepts over steps (band: what unrelated words score)", "cosine", scales, [band, curves])
    _link(figure, widget, across, [curves])

    def draw(scores: ScoresPayload) -> None:
        steps = np.arange(len(scores.cosine))
        across.max = max(widget.steps - 1, len(steps) - 1, 1)
        if len(steps) < 2:  # bqplot takes a table with one column for one curve
            curves.x, curves.y, band.x, band.y = [], [], [], [[], []]
            return
        with band.hold_sync():
            band.x, band.y = steps, scores.null_band.T
        with curves.hold_sync():
            curves.x, curves.labels = steps, scores.concepts
            curves.y = scores.cosine.T if scores.concepts else []

    widget.observe_scores(draw)
    return figure


def attention_chart(widget: DiffVis) -> VBox:
    """How much attention each typed word of a widget's run gets: the mean of its heat map over the steps.

    A row of buttons, one for each word in the colour of its curve, over a figure. The chart grows while the run goes on
    and starts anew with the next. It is linked both ways: the line moves with ``widget.step`` and moves it (click,
    move, click); a button adds its word to ``widget.selected`` or takes it away, and selected words are drawn strong.

    Raises:
        TypeError: ``widget`` is no DiffVis.
    """
    _check("attention_chart", widget)
    across = LinearScale(min=0, max=max(widget.steps - 1, 1))
    scales = {"x": across, "y": LinearScale(min=0)}
    figure = _figure("Attention over steps (mean of each word's heat map)", "attention", scales, [])
    selector = _link(figure, widget, across, [])
    # not the figure's legend: it lies under what moves the line, and cannot be clicked
    buttons = HBox(layout={"flex_flow": "row wrap"})
    masses = _Masses()
    drawing = threading.Lock()  # the worker's thread and the notebook's both come here
    curves: dict[int, Lines] = {}

    def begin(trace: Trace) -> None:
        curves.clear()
        shown: list[ToggleButton] = []
        for place, index in enumerate(masses.words):
            colour, text = _COLOURS[place % len(_COLOURS)], trace.words[index].text
            curves[index] = Lines(x=[], y=[], scales=scales, labels=[text], colors=[colour])
            button = ToggleButton(description=text, value=index in widget.selected, layout={"width": "auto"})
            button.style.text_color, button.style.font_weight = colour, "bold"
            button.observe(_selects(widget, index), "value")
            shown.append(button)
        buttons.children = shown
        figure.marks = selector.marks = list(curves.values())

    def draw(_: Any = None) -> None:
        trace = widget._session.watched
        if trace is None:
            return
        with drawing:
            if masses.take(trace):
                begin(trace)
            steps = np.arange(len(masses.rows))
            across.max = max(widget.steps - 1, len(steps) - 1, 1)
            for place, curve in enumerate(curves.values()):
                with curve.hold_sync():
                    curve.x, curve.y = steps, [row[place] for row in masses.rows]
        stress()

    def stress(_: Any = None) -> None:
        for (index, curve), button in zip(dict(curves).items(), buttons.children, strict=False):
            strong = index in widget.selected
            curve.stroke_width = 3.5 if strong else 2
            curve.opacities = [1.0 if strong or not widget.selected else 0.35]
            button.value = strong

    widget.observe(draw, ["progress", "status", "_snapshot"])
    widget.observe(stress, "selected")
    draw()
    return VBox([buttons, figure])


def decision_chart(curve: DecisionCurve, widget: DiffVis | None = None) -> Figure:
    """A decision curve: the mean share over its seeds with its 95 % band, and the decision step with its interval.

    With a widget of a run of as many steps there is also the line at its step, linked both ways as in `concept_chart`:
    at step k you see the picture from which on the word was another one.

    Raises:
        TypeError: ``curve`` is no DecisionCurve, or ``widget`` no DiffVis.
        ValueError: the widget's run has other steps than the curve.
    """
    from diffvis_widget.intervene import DecisionCurve

    if not isinstance(curve, DecisionCurve):
        raise TypeError(f"decision_chart needs what dv.decision_curve gives, got {type(curve).__name__}")
    across = LinearScale(min=0, max=curve.steps)
    scales = {"x": across, "y": LinearScale(min=0, max=1)}
    known = np.isfinite(curve.band).all(axis=1)
    band = _band(scales, _ACCENT)
    if known.sum() > 1:
        band.x, band.y = curve.switch[known], curve.band[known].T
    there = np.isfinite(curve.mean)
    mean = Lines(x=curve.switch[there], y=curve.mean[there], scales=scales, colors=[_ACCENT], stroke_width=2.5)
    marks = [band, mean]
    title = f"{curve.word} or {curve.to}? The meter cannot tell the two apart"
    if np.isfinite(curve.decision):
        low, high = curve.interval
        title = f"{curve.word}, not {curve.to}: decided at step {curve.decision:.1f} of {curve.steps}"
        if np.isfinite(low):
            title += f" (95 %: {low:.1f} to {high:.1f})"
            sure = _band(scales)
            sure.x, sure.y = [low, high], [[0, 0], [1, 1]]
            marks.insert(0, sure)
        marks.append(
            Lines(x=[curve.decision] * 2, y=[0, 1], scales=scales, colors=[_LINE], line_style="dashed", stroke_width=2)
        )
    figure = _figure(title, f"share of {curve.word}", scales, marks)
    figure.axes[0].label = f"step from which on {curve.word} was {curve.to}"
    if widget is not None:
        _check("decision_chart", widget)
        trace = widget._session.watched
        steps = widget.steps if trace is None else len(trace.steps)
        if steps != curve.steps:
            raise ValueError(
                f"widget has a run of {steps} steps and the curve has {curve.steps}: they do not belong together"
            )
        _link(figure, widget, across, [mean], most=curve.steps - 1)
    return figure


class _Masses:
    """Mean of the heat map of each typed word, step by step; what was computed for a run is kept."""

    def __init__(self) -> None:
        self._trace: Trace | None = None
        self.words: list[int] = []
        self.rows: list[Any] = []

    def take(self, trace: Trace) -> bool:
        """Add the steps that are new; True for another run than the last."""
        new = trace is not self._trace
        if new:
            self._trace, self.rows = trace, []
            typed = [index for index, word in enumerate(trace.words) if word.kind == "word" and word.tokens]
            self.words = typed if trace.layers else []
        if self.words:
            for step in range(len(self.rows), len(trace.records)):
                self.rows.append(trace.heat_maps(step)[self.words].mean(axis=(1, 2)))
        return new


# -- what the charts share ---------------------------------------------------------------------------------------------


def _check(chart: str, widget: Any) -> None:
    if not isinstance(widget, DiffVis):
        raise TypeError(f"{chart} needs a DiffVis, got {type(widget).__name__}")


def _figure(title: str, measure: str, scales: dict[str, LinearScale], marks: Sequence[Any]) -> Figure:
    axes = [
        Axis(scale=scales["x"], label="step", tick_format="d", grid_lines="none"),
        Axis(scale=scales["y"], label=measure, side="left", tick_format=".2f"),
    ]
    figure = Figure(
        marks=list(marks),
        axes=axes,
        title=title,
        legend_location="top-left",
        fig_margin={"top": 50, "bottom": 45, "left": 60, "right": 20},
        layout={"height": "320px", "min_width": "300px"},
    )
    figure.title_style = {"font-size": "13px"}
    return figure


def _band(scales: dict[str, LinearScale], colour: str = _BAND) -> Lines:
    return Lines(
        x=[], y=[[], []], scales=scales, fill="between", fill_colors=[colour], fill_opacities=[0.25], opacities=[0, 0]
    )  # fmt: skip


def _link(
    figure: Figure, widget: DiffVis, across: LinearScale, marks: Sequence[Any], most: int | None = None
) -> IndexSelector:
    """A line at the widget's step that moves with it, and moves it. most: the last step, where it is not the axis'."""
    selector = IndexSelector(scale=across, marks=list(marks), color=_LINE, line_width=2)

    def follow(_: Any) -> None:
        if _step_of(selector.selected) != widget.step:
            selector.selected = np.array([float(widget.step)])

    def lead(_: Any) -> None:
        step = _step_of(selector.selected)
        if step is not None and step != widget.step:
            widget.step = min(step, int(across.max or 0) if most is None else most)

    widget.observe(follow, "step")
    selector.observe(lead, "selected")
    follow(None)
    figure.interaction = selector
    return selector


def _selects(widget: DiffVis, index: int) -> Callable[[Any], None]:
    def follow(change: Any) -> None:
        others = [one for one in widget.selected if one != index]
        if change["new"] != (index in widget.selected):
            widget.selected = [*others, index] if change["new"] else others

    return follow


def _step_of(selected: Any) -> int | None:
    """The step nearest to where the line is; None where there is no line."""
    return None if selected is None or len(selected) == 0 else max(0, round(float(selected[0])))
