"""The description of a heat map against formulas written out position by position."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import diffvis_widget as dv
from diffvis_widget.traces import Layer, Record, Step, Trace, Word
from tests.traces.build import LAYERS, make_trace

WORDS = [
    Word("<|startoftext|>", (0,), "special"),
    Word("sun", (1,), "word"),
    Word("sea", (2,), "word"),
    Word("sky", (3,), "word"),
    Word("padding", (4, 5), "padding"),
]


def trace_of(*maps: list[list[float]]) -> Trace:
    """A trace of one step and one layer with these maps, one for each word."""
    stacked = np.array([maps], dtype=np.float16)
    size = stacked.shape[-2:]
    layer = Layer("mid", "cross", 1, size, True)
    trace = Trace(prompt="sun sea sky", negative_prompt=None, words=WORDS, layers=[layer], keep="layers", meta={})
    blank = np.zeros((4, *size), np.float32)
    trace.append(Record(Step(0, 500.0, 1.0), blank, blank, blank, None, 1.0, (stacked,)))
    return trace


def entropy(values: np.ndarray) -> float:
    total = sum(float(value) for value in values.ravel())
    shares = [float(value) / total for value in values.ravel()]
    return -sum(share * math.log(share) for share in shares if share > 0) / math.log(len(shares))


def test_the_numbers_are_those_of_the_formulas() -> None:
    trace = make_trace(steps=4)
    description = trace.describe_map("circle", step=[1, 3])
    heat = trace.heat_map("circle", step=[1, 3])
    assert description.word == "circle"
    assert description.steps == (1, 3)
    assert description.layers == tuple(layer.name for layer in LAYERS if layer.default)
    assert (description.head, description.grid, description.kind) == (None, (8, 12), "probability")
    assert description.entropy == pytest.approx(entropy(heat), abs=1e-6)
    assert description.contrast == pytest.approx(heat.max() / heat.mean(), rel=1e-5)
    means = {index: float(values.mean()) for index, values in enumerate(trace.heat_maps(step=[1, 3]))}
    counted = {index: mean for index, mean in means.items() if not math.isnan(mean)}
    assert description.word_share == pytest.approx(means[2] / sum(counted.values()), rel=1e-5)
    special = sum(means[index] for index in (0, 7, 8))
    assert description.special_share == pytest.approx(special / sum(counted.values()), rel=1e-5)
    maps = trace.heat_maps(step=[1, 3])
    expected = {trace.words[i].text: np.corrcoef(heat.ravel(), maps[i].ravel())[0, 1] for i in (1, 3, 4, 5)}
    ranked = sorted(expected.items(), key=lambda pair: -pair[1])[:3]
    assert [word for word, _ in description.others] == [word for word, _ in ranked]
    np.testing.assert_allclose([r for _, r in description.others], [r for _, r in ranked], atol=1e-6)


def test_flat_and_single_cells_are_the_ends_of_the_scale() -> None:
    flat, single = [[0.5, 0.5], [0.5, 0.5]], [[0.0, 0.75], [0.0, 0.0]]
    trace = trace_of(flat, flat, single, [[0.0, 0.0], [0.0, 0.0]], flat)
    assert trace.describe_map("sun").entropy == pytest.approx(1)
    assert trace.describe_map("sun").contrast == pytest.approx(1)
    assert trace.describe_map("sea").entropy == pytest.approx(0)
    assert trace.describe_map("sea").contrast == pytest.approx(4)
    assert math.isnan(trace.describe_map("sky").entropy)
    assert trace.describe_map("sky").others == ()


def test_a_map_that_another_word_shares_is_named() -> None:
    first = [[0.1, 0.2], [0.3, 0.8]]
    nearly = [[0.11, 0.2], [0.3, 0.79]]
    trace = trace_of([[0.5, 0.5], [0.5, 0.5]], first, nearly, [[0.8, 0.1], [0.1, 0.1]], first)
    description = trace.describe_map("sun")
    assert description.nearly_same == ("sea",)
    assert "Nearly the same as the map of 'sea' (correlation 1.00)." in str(description)
    assert trace.describe_map("sky").nearly_same == ()
    assert "The most similar map is that of 'sea'" in str(trace.describe_map("sky"))


def test_the_text_says_what_is_averaged() -> None:
    trace = make_trace("heads", steps=3)
    text = str(trace.describe_map("circle", layer="mid.attn2", head=1, step=2))
    assert "mean of step 3, layer mid.attn2 and head 1, on 2 x 3." in text
    text = str(trace.describe_map(["Red", "circle"]))
    assert text.startswith("Heat map of 'red circle'")
    assert "mean of 3 steps, 1 to 3, 2 layers and all heads, on 8 x 12." in text
    assert "trust.md" in text
    assert "<bdi>Heat map</bdi>" in trace.describe_map("circle")._repr_html_()


def test_a_competition_has_its_own_spread_and_the_words_own_neighbours() -> None:
    trace = make_trace()
    among: list[Any] = ["square", ","]
    description = trace.describe_map("circle", among=among)
    share = trace.heat_map("circle", among=among)
    assert description.entropy == pytest.approx(entropy(share), abs=1e-6)
    assert description.others == trace.describe_map("circle").others


def test_a_missing_word_is_named() -> None:
    with pytest.raises(KeyError, match="moon"):
        make_trace().describe_map("moon")
    assert dv.MapDescription.__name__ == "MapDescription"
