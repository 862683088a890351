"""bqplot charts of a run: what they draw, and that they are linked both ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

from diffvis_widget.intervene import DecisionCurve
from diffvis_widget.widget import charts
from diffvis_widget.widget.charts import attention_chart, concept_chart, decision_chart
from tests.traces.build import make_trace
from tests.widget.conftest import PROMPT, SECONDS, Gate, seen
from tests.widget.session.test_scoring import ColourMeter, table

Make = Callable[..., Any]


# -- concepts ----------------------------------------------------------------------------------------------------------


def test_the_chart_draws_the_scores_and_is_linked_both_ways(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, concepts=["red", "blue"], steps=6, meter=ColourMeter())
    assert widget.wait(SECONDS)
    figure = concept_chart(widget)
    band, curves, _ = figure.marks
    line: Any = figure.interaction
    _, cosine, _ = table(widget, widget.wire.of("run")[0].content["run"])
    assert curves.labels == ["red", "blue"]
    assert np.abs(np.asarray(curves.y).T - cosine).max() < 1e-5
    assert np.asarray(band.y).shape == (2, 6)
    widget.step = 4
    assert list(line.selected) == [5]  # people read step 5 at index 4
    line.selected = np.array([3.4])
    assert widget.step == 2
    assert list(line.selected) == [3.4]  # the line stays under the pointer while it moves
    line.selected = np.array([99.0])
    assert widget.step == 5
    line.selected = None
    assert widget.step == 5


def test_the_chart_follows_new_concepts_and_new_runs(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, concepts=["red"], steps=3, meter=ColourMeter())
    figure = concept_chart(widget)
    curves = figure.marks[1]
    assert widget.wait(SECONDS)
    assert np.shape(curves.y) == (3,)
    widget.concepts = ["green", "red"]
    widget._session.publisher.scorer.drain(SECONDS)
    assert curves.labels == ["green", "red"]
    assert np.shape(curves.y) == (2, 3)
    widget.concepts = []
    widget._session.publisher.scorer.drain(SECONDS)
    assert np.size(curves.y) == 0
    widget.concepts, widget.steps = ["blue"], 5
    widget.run()
    assert widget.wait(SECONDS)
    assert np.shape(curves.y) == (5,)
    assert list(curves.x) == [1, 2, 3, 4, 5]
    assert figure.axes[0].scale.max == 5


def test_colour_words_have_their_own_colour_and_labels_end_the_curves(
    make: Make, shared_pipe: StableDiffusionPipeline
) -> None:
    concepts = ["blue", "green", "red"]
    widget = make(shared_pipe, prompt=PROMPT, concepts=concepts, steps=3, meter=ColourMeter())
    assert widget.wait(SECONDS)
    figure: Any = concept_chart(widget)
    _, curves, labels = figure.marks
    assert [colour_name(colour) for colour in curves.colors] == concepts
    colours = charts._word_colours(["circle", "blue", "star", "red circle", "red"])
    assert [colour_name(colour) for colour in colours[1:4:2]] == ["blue", "red"]
    assert len(set(colours)) == 5
    assert not {colour_name(colours[0]), colour_name(colours[2])} & {"blue", "red"}
    assert list(labels.text) == concepts
    assert list(labels.colors) == list(curves.colors)
    assert list(labels.x) == [3, 3, 3]
    assert np.argsort(labels.y).tolist() == np.argsort(np.asarray(curves.y)[:, -1]).tolist()
    assert not curves.display_legend
    assert list(figure.axes[0].tick_values) == [1, 2, 3]


def colour_name(colour: str) -> str:
    """The colour word for a colour whose one channel exceeds both others clearly."""
    channels = {name: int(colour[at : at + 2], 16) for name, at in (("red", 1), ("green", 3), ("blue", 5))}
    first, second, _ = sorted(channels, key=lambda name: -channels[name])
    return first if channels[first] > 1.8 * channels[second] else "other"


def test_labels_keep_their_order_and_a_gap() -> None:
    spread = charts._spread(np.array([0.3, 0.1, 0.31, 0.305]), 0.05)
    assert np.argsort(spread).tolist() == [1, 0, 3, 2]
    assert np.diff(np.sort(spread)).min() >= 0.05 - 1e-6
    assert spread[1] == pytest.approx(0.1)


# -- attention ---------------------------------------------------------------------------------------------------------


def parts(chart: Any) -> Any:
    """The buttons and the figure."""
    return chart.children


def test_attention_is_the_mean_of_each_words_map(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=4)
    trace = widget.trace
    _, figure = parts(attention_chart(widget))
    assert [curve.labels for curve in figure.marks] == [[word] for word in PROMPT.split()]
    for curve, word in zip(figure.marks, (word for word in trace.words if word.kind == "word"), strict=True):
        index = trace.words.index(word)
        expected = [trace.heat_map(index, step=step).mean() for step in range(4)]
        np.testing.assert_allclose(curve.y, expected, rtol=1e-4)
        assert list(curve.x) == [1, 2, 3, 4]


def test_the_attention_chart_is_linked_both_ways(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=4)
    trace = widget.trace
    buttons, figure = parts(attention_chart(widget))
    line: Any = figure.interaction
    widget.step = 2
    assert list(line.selected) == [3]
    line.selected = np.array([2.2])
    assert widget.step == 1
    line.selected = np.array([50.0])
    assert widget.step == 3
    first, second = (next(i for i, word in enumerate(trace.words) if word.text == text) for text in ("red", "blue"))
    curves = {curve.labels[0]: curve for curve in figure.marks}
    words = {button.description: button for button in buttons.children}
    words["red"].value = True
    words["blue"].value = True
    assert widget.selected == [first, second]
    assert words["red"].style.text_color == curves["red"].colors[0]
    assert curves["red"].stroke_width > curves["square"].stroke_width
    assert curves["red"].opacities[0] > curves["square"].opacities[0]
    words["red"].value = False
    assert widget.selected == [second]
    widget.selected = [first]
    assert (words["red"].value, words["blue"].value) == (True, False)
    widget.selected = []
    assert not any(button.value for button in buttons.children)
    assert len({curve.stroke_width for curve in figure.marks}) == 1


def test_the_attention_chart_grows_and_starts_anew(make: Make, pipe: StableDiffusionPipeline, gate: Gate) -> None:
    widget = make(pipe, steps=3)
    buttons, figure = parts(attention_chart(widget))
    assert figure.marks == []
    widget.prompt = PROMPT
    widget.run()
    gate.until_held()
    begun = seen(widget, "progress", lambda progress: progress > 0)
    gate.let(2)
    assert begun.wait(SECONDS)
    assert 1 <= len(figure.marks[0].y) < 3
    gate.let_all()
    assert widget.wait(SECONDS)
    assert len(figure.marks[0].y) == 3
    widget.prompt, widget.steps = "a green star", 5
    widget.run()
    assert widget.wait(SECONDS)
    assert [curve.labels[0] for curve in figure.marks] == ["a", "green", "star"]
    assert len(figure.marks[0].y) == 5
    assert figure.axes[0].scale.max == 5
    line: Any = figure.interaction
    assert line.marks == figure.marks
    assert [button.description for button in buttons.children] == ["a", "green", "star"]


def test_a_run_without_word_maps_has_no_attention_to_draw(make: Make) -> None:
    widget = make(make_trace(steps=3, layers=[]))
    assert widget.wait(SECONDS)
    buttons, figure = parts(attention_chart(widget))
    assert figure.marks == []
    assert list(buttons.children) == []


# -- a decision --------------------------------------------------------------------------------------------------------


def curve_of(share: Any, steps: int = 4) -> DecisionCurve:
    share = np.asarray(share, dtype=np.float32)
    cosine = np.stack([share, 1 - share], axis=-1)
    points, seeds = np.arange(steps + 1), np.arange(len(share))
    return DecisionCurve(
        "a red circle", "a blue circle", "red", "blue", steps, points, seeds, ["red", "blue"], cosine, share
    )


def test_a_decision_is_marked_on_its_curve() -> None:
    curve = curve_of([[0, 0, 0, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0.5, 1, 1], [0, 0, 0.5, 1, 1], [0, 0, 0.5, 1, 1]])
    figure = decision_chart(curve)
    sure, band, mean, mark = figure.marks
    np.testing.assert_allclose(mean.y, curve.mean)
    np.testing.assert_allclose(np.transpose(band.y), curve.band)
    np.testing.assert_allclose(mark.x, [curve.decision] * 2)
    np.testing.assert_allclose(sure.x, curve.interval)
    assert "decided after 2.0 of 4 steps (95 %: 1.4 to 2.6)" in figure.title


def test_too_few_seeds_for_an_interval_say_how_many_agree() -> None:
    figure = decision_chart(curve_of([[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [0, 1, 1, 1, 1]]))
    assert "decided after 2.5 of 4 steps (2 of 3 seeds agree within a step)" in figure.title
    assert len(figure.marks) == 3  # the band of the mean share, the mean, the decision


def test_the_decision_chart_is_linked_both_ways(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=4)
    assert widget.wait(SECONDS)
    figure = decision_chart(curve_of([[0, 0, 0, 1, 1]]), widget)
    assert len(figure.marks) == 3  # one seed has no interval
    line: Any = figure.interaction
    widget.step = 3
    assert list(line.selected) == [3]
    line.selected = np.array([4.0])  # the run that never was switched: its last step
    assert widget.step == 3
    line.selected = np.array([1.0])
    assert widget.step == 1
    with pytest.raises(ValueError, match="run has 4 steps and the curve 2"):
        decision_chart(curve_of([[0, 1, 1]], 2), widget)


def test_a_curve_without_a_decision_says_so() -> None:
    figure = decision_chart(curve_of([[0.5, 0.5, 0.5, 0.5, 0.5]]))
    assert "cannot tell the two apart" in figure.title
    assert len(figure.marks) == 2


def test_a_chart_needs_a_widget() -> None:
    for chart in (concept_chart, attention_chart):
        with pytest.raises(TypeError, match="widget must be a DiffVis, not"):
            chart(7)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"curve must be a DecisionCurve, as dv\.decision_curve returns it, not"):
        decision_chart(7)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="widget must be a DiffVis, not"):
        decision_chart(curve_of([[0, 1, 1, 1, 1]]), "widget")  # pyright: ignore[reportArgumentType]
