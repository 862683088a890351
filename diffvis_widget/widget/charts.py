"""bqplot figures that are linked to a widget."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from bqplot.axes import Axis
from bqplot.figure import Figure
from bqplot.interacts import IndexSelector
from bqplot.marks import Label, Lines
from bqplot.scales import LinearScale
from ipywidgets import HBox, ToggleButton, VBox
from numpy.typing import NDArray

from diffvis_widget.arguments import instance
from diffvis_widget.step_numbers import step_number
from diffvis_widget.traces.colormap import word_colours
from diffvis_widget.wire.messages import ScoresPayload

from .widget import DiffVis

if TYPE_CHECKING:
    from diffvis_widget.intervene import DecisionCurve
    from diffvis_widget.traces import Trace

_FIRST = step_number(0)
_BAND = "#8a8f98"
_LINE = "#8a8f98"
_ACCENT = "#2f6fdb"
# distinguishable without red against green, on light and dark backgrounds; each with the colour words that it resembles
_PALETTE = {
    (47, 111, 219): ("blue",),
    (217, 130, 43): ("orange",),
    (43, 154, 143): ("green",),
    (176, 85, 157): ("pink",),
    (138, 127, 29): ("yellow",),
    (194, 69, 61): ("red",),
    (108, 107, 209): ("purple",),
    (95, 143, 58): ("green",),
    (122, 106, 90): ("brown",),
    (58, 143, 191): ("blue",),
}
_TICKS = 11  # of the axis of steps, at most: at whole steps, each once
_LABEL_GAP = 0.07  # least distance of two labels, as a share of the axis


def concept_chart(widget: DiffVis) -> Figure:
    """The concept curves of a widget's run: the cosine over the steps, a line at the shown step, and the null band.

    The chart grows during a run and is cleared when the next one starts. The line and ``widget.step`` are linked both
    ways: click into the chart, move, and click again to set the step.

    Args:
        widget: The widget.

    Returns:
        A bqplot figure.

    Raises:
        TypeError: ``widget`` is not a DiffVis.
    """
    _check(widget)
    across = LinearScale(min=_FIRST, max=_last(widget, 0))
    up = LinearScale()
    scales = {"x": across, "y": up}
    band = _band(scales)
    curves = Lines(x=[], y=[], scales=scales, stroke_width=2)
    labels = Label(scales=scales, x_offset=6, align="start", default_size=12, apply_clip=False)
    figure = _figure("Concepts over steps (band: scores of unrelated words)", "cosine", scales, [band, curves, labels])
    figure.fig_margin = {**figure.fig_margin, "right": 90}
    _link(figure, widget, across, [curves])

    def draw(scores: ScoresPayload) -> None:
        steps = _numbers(len(scores.cosine))
        across.max = _last(widget, len(steps))
        if len(steps) < 2 or not scores.concepts:  # bqplot takes a table with a single column for a single curve
            curves.x, curves.y, labels.x, labels.y, labels.text = [], [], [], [], []
            band.x, band.y = (steps, scores.null_band.T) if len(steps) > 1 else ([], [[], []])
            return
        with band.hold_sync():
            band.x, band.y = steps, scores.null_band.T
        colours = _word_colours(scores.concepts)
        with curves.hold_sync():
            curves.x, curves.labels, curves.colors = steps, scores.concepts, colours
            curves.y = scores.cosine.T
        has_value = np.isfinite(scores.cosine[-1])
        with labels.hold_sync():
            shown = np.concatenate([scores.cosine, scores.null_band], axis=1)
            labels.y = _spread(scores.cosine[-1][has_value], _LABEL_GAP * float(np.nanmax(shown) - np.nanmin(shown)))
            labels.x = [float(steps[-1])] * int(has_value.sum())
            labels.text = [concept for concept, is_shown in zip(scores.concepts, has_value, strict=True) if is_shown]
            labels.colors = [colour for colour, is_shown in zip(colours, has_value, strict=True) if is_shown]

    widget.observe_scores(draw)
    return figure


def _word_colours(texts: Sequence[str]) -> list[str]:
    """The colours of words or concepts as bqplot takes them."""
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in word_colours(texts, _PALETTE)]


def _spread(values: NDArray[np.floating[Any]], gap: float) -> NDArray[np.float64]:
    """The values, moved apart as little as needed to keep a gap between each two."""
    order = np.argsort(values)
    places = values[order].astype(float)
    for _ in range(100):
        near = gap - np.diff(places)
        if not (near > 1e-9).any():
            break
        push = np.maximum(near, 0) / 2
        places[:-1] -= push
        places[1:] += push
    spread = np.empty(len(values))
    spread[order] = places
    return spread


def attention_chart(widget: DiffVis) -> VBox:
    """The attention to each typed word of a widget's run: the mean of its heat map over the steps.

    Above the figure is a button for each word, in the colour of its curve. The chart grows during a run and is cleared
    when the next one starts. Both parts are linked both ways: the line to ``widget.step`` (click, move, click), the
    buttons to ``widget.selected``, whose words are emphasised.

    Args:
        widget: The widget.

    Returns:
        The buttons and the bqplot figure.

    Raises:
        TypeError: ``widget`` is not a DiffVis.
    """
    _check(widget)
    across = LinearScale(min=_FIRST, max=_last(widget, 0))
    scales = {"x": across, "y": LinearScale(min=0)}
    figure = _figure("Attention over steps (mean of each word's heat map)", "attention", scales, [])
    selector = _link(figure, widget, across, [])
    # not the legend of the figure: it lies under the selector and cannot be clicked
    buttons = HBox(layout={"flex_flow": "row wrap"})
    attention = _WordAttention()
    drawing = threading.Lock()  # called by the worker thread and by the notebook's
    curves: dict[int, Lines] = {}

    def begin(trace: Trace) -> None:
        curves.clear()
        shown: list[ToggleButton] = []
        texts = [trace.words[index].text for index in attention.words]
        for index, text, colour in zip(attention.words, texts, _word_colours(texts), strict=True):
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
            if attention.update(trace):
                begin(trace)
            steps = _numbers(len(attention.rows))
            across.max = _last(widget, len(steps))
            for place, curve in enumerate(curves.values()):
                with curve.hold_sync():
                    curve.x, curve.y = steps, [row[place] for row in attention.rows]
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
    """A decision curve: the mean share over its seeds with its 95 % band, and the decision step.

    The decision step has its interval; of fewer than five seeds, the title says how many of them agree instead.

    The axis counts the steps before the word was replaced, 0 to T. With a widget whose run has as many steps, a line is
    linked both ways as in `concept_chart`: after k steps, the widget shows step k + 1, the first with the other word.

    Args:
        curve: The decision curve.
        widget: A widget to link.

    Returns:
        A bqplot figure.

    Raises:
        TypeError: ``curve`` is not a DecisionCurve, or ``widget`` not a DiffVis.
        ValueError: The widget's run and the curve have different numbers of steps.
    """
    from diffvis_widget.intervene import DecisionCurve

    instance("curve", curve, DecisionCurve, "a DecisionCurve, as dv.decision_curve returns it")
    across = LinearScale(min=0, max=curve.steps)
    scales = {"x": across, "y": LinearScale(min=0, max=1)}
    has_band = np.isfinite(curve.band).all(axis=1)
    band = _band(scales, _ACCENT)
    if has_band.sum() > 1:
        band.x, band.y = curve.switch[has_band], curve.band[has_band].T
    has_mean = np.isfinite(curve.mean)
    mean = Lines(x=curve.switch[has_mean], y=curve.mean[has_mean], scales=scales, colors=[_ACCENT], stroke_width=2.5)
    marks = [band, mean]
    title = f"{curve.word} or {curve.to}? The meter cannot tell the two apart"
    if np.isfinite(curve.decision):
        low, high = curve.interval
        title = f"{curve.word}, not {curve.to}: decided after {curve.decision:.1f} of {curve.steps} steps"
        if np.isfinite(low):
            title += f" (95 %: {low:.1f} to {high:.1f})"
            sure = _band(scales)
            sure.x, sure.y = [low, high], [[0, 0], [1, 1]]
            marks.insert(0, sure)
        elif len(curve.seeds) > 1:
            title += f" ({curve.agreeing} of {len(curve.seeds)} seeds agree within a step)"
        marks.append(
            Lines(x=[curve.decision] * 2, y=[0, 1], scales=scales, colors=[_LINE], line_style="dashed", stroke_width=2)
        )
    figure = _figure(title, f"share of {curve.word}", scales, marks)
    figure.axes[0].label = f"steps before {curve.word} was replaced by {curve.to}"
    if widget is not None:
        _check(widget)
        trace = widget._session.watched
        steps = widget.steps if trace is None else len(trace.steps)
        if steps != curve.steps:
            raise ValueError(f"the widget's run has {steps} steps and the curve {curve.steps}: they must be equal")
        _link(figure, widget, across, [mean], first=0, steps=curve.steps)
    return figure


class _WordAttention:
    """The mean of the heat map of each typed word at each step, cached per run."""

    def __init__(self) -> None:
        self._trace: Trace | None = None
        self.words: list[int] = []
        self.rows: list[Any] = []

    def update(self, trace: Trace) -> bool:
        """Add the new steps.

        Args:
            trace: The trace of the run.

        Returns:
            True for another run than before.
        """
        new = trace is not self._trace
        if new:
            self._trace, self.rows = trace, []
            typed = [index for index, word in enumerate(trace.words) if word.kind == "word" and word.tokens]
            self.words = typed if trace.layers else []
        if self.words:
            for step in range(len(self.rows), len(trace.records)):
                self.rows.append(trace.heat_maps(step)[self.words].mean(axis=(1, 2)))
        return new


# -- shared by the charts ----------------------------------------------------------------------------------------------


def _check(widget: Any) -> None:
    instance("widget", widget, DiffVis, "a DiffVis")


def _figure(title: str, measure: str, scales: dict[str, LinearScale], marks: Sequence[Any]) -> Figure:
    axes = [
        Axis(scale=scales["x"], label="step", tick_format="d", grid_lines="none"),
        Axis(scale=scales["y"], label=measure, side="left", tick_format=".3~g"),
    ]

    def set_ticks(_: Any = None) -> None:
        low, high = float(scales["x"].min or 0), float(scales["x"].max or 1)
        axes[0].tick_values = np.unique(np.linspace(low, high, min(_TICKS, int(high - low) + 1)).round())

    scales["x"].observe(set_ticks, "max")
    set_ticks()
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
    figure: Figure,
    widget: DiffVis,
    across: LinearScale,
    marks: Sequence[Any],
    first: int = _FIRST,
    steps: int | None = None,
) -> IndexSelector:
    """Links a line to the widget's step, both ways.

    first: where the first step is on the axis; steps: their number, if the last one is not the end of the axis.
    """
    selector = IndexSelector(scale=across, marks=list(marks), color=_LINE, line_width=2)

    def follow(_: Any) -> None:
        if _index_of(selector.selected, first) != widget.step:
            selector.selected = np.array([float(widget.step + first)])

    def lead(_: Any) -> None:
        index = _index_of(selector.selected, first)
        if index is not None and index != widget.step:
            widget.step = min(index, int(across.max or first) - first if steps is None else steps - 1)

    widget.observe(follow, "step")
    selector.observe(lead, "selected")
    follow(None)
    figure.interaction = selector
    return selector


def _selects(widget: DiffVis, index: int) -> Callable[[Any], None]:
    def follow(change: Any) -> None:
        others = [selected for selected in widget.selected if selected != index]
        if change["new"] != (index in widget.selected):
            widget.selected = [*others, index] if change["new"] else others

    return follow


def _index_of(selected: Any, first: int) -> int | None:
    """The index of the step nearest to the line; None without a line."""
    return None if selected is None or len(selected) == 0 else max(0, round(float(selected[0])) - first)


def _numbers(steps: int) -> NDArray[np.int64]:
    """The numbers of the first steps, as people read them."""
    return np.array([step_number(index) for index in range(steps)], dtype=np.int64)


def _last(widget: DiffVis, steps: int) -> int:
    """The number at the end of the axis: of the last step that is planned or made, with room for a line between two."""
    trace = widget._session.watched
    planned = None if trace is None else trace.meta.get("planned_steps")
    return max(planned if isinstance(planned, int) else widget.steps or 1, steps, _FIRST + 1)
