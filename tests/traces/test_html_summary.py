"""The HTML of traces and results in notebooks: what it shows, that texts stay texts, and its size."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diffvis_widget as dv
from diffvis_widget.explain import GameResult, Relevance, RoleRelevance
from diffvis_widget.traces.colormap import colour_table
from diffvis_widget.traces.html_summary import MAX_ROWS, sparkline
from tests.export.test_hostile_text import HTML, Structure
from tests.traces.build import make_trace
from tests.traces.test_values import NAMES, results

NOISE = np.random.default_rng(5).integers(0, 256, (700, 900, 3), dtype=np.uint8)
ALLOWED = {"div", "b", "bdi", "s", "span", "img", "table", "tr", "th", "td", "svg", "polyline", "circle"}


def images(document: str) -> list[np.ndarray]:
    encoded = re.findall(r'src="data:image/png;base64,([^"]+)"', document)
    return [np.array(Image.open(io.BytesIO(base64.b64decode(data)), formats=("PNG",))) for data in encoded]


def texts(document: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", document)))


def points(svg: str) -> list[list[tuple[float, float]]]:
    lines = re.findall(r'points="([^"]*)"', svg)
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())] for line in lines]


def trace_with(text: str = "circle", image: np.ndarray | None = None) -> dv.Trace:
    trace = make_trace(negative=True)
    trace.prompt, trace.negative_prompt = text, text
    trace.words[1] = replace(trace.words[1], text=text, token_texts=(text,))
    trace.meta |= {"seed": text, "scheduler": text, "schedule": text}
    if image is not None:
        trace.finish(image=image)
    return trace


def summaries(text: str, count: int = 1, image: np.ndarray | None = None) -> dict[str, str]:
    """The HTML of each class, with a text in all places that take one."""
    trace, names = trace_with(text, image), [text] * count
    words = np.ones((3, 9), np.float32)
    cube, matrix = np.ones((min(2, count), count, count)), np.full((40, count), 0.5, np.float32)
    curves: Any = {text + str(index) * (count > 1): matrix[:, 0] for index in range(count)}
    other: Any = text
    shares = np.tile(np.linspace(0, 1, 5, dtype=np.float32), (count, 1))
    values = {
        "Trace": trace,
        "Saliency": dv.Saliency(text, 0, NOISE[..., 0].astype(np.float32)),
        "ConceptScores": dv.ConceptScores(names, matrix, matrix, matrix[:, :1], matrix[0], text),
        "WordRelevance": dv.WordRelevance(text, matrix[:, 0], matrix),
        "Relevance": Relevance(words, words, words[..., None, None], trace),
        "DecisionCurve": dv.DecisionCurve(
            text, text, text, text, 4, np.arange(5), np.arange(count), names, shares[..., None], shares
        ),
        "Comparison": dv.compare(trace, trace),
        "RoleRelevance": RoleRelevance(names, [text], np.ones((count, 5, 1, 40), np.float32)),
        "GameResult": GameResult(curves, curves, (1.0, 1.0), other),
        "StepCorrelation": dv.StepCorrelation(
            names[:2], names, names, np.stack([matrix.T] * min(2, count)), matrix,
            cube, cube, cube, cube, "levels", "effective", "holm",
        ),
    }  # fmt: skip
    return {name: value._repr_html_() for name, value in values.items()}


CLASSES = list(summaries("harmless"))
HARMLESS = {name: Structure(document).elements for name, document in summaries("harmless").items()}


@pytest.mark.parametrize("text", HTML, ids=range(len(HTML)))
def test_no_text_becomes_an_element(text: str) -> None:
    for name, document in summaries(text).items():
        assert Structure(document).elements == HARMLESS[name], name
        assert document.isprintable(), name
        document.encode()


@pytest.mark.parametrize("name", CLASSES)
def test_the_html_is_static(name: str) -> None:
    """No scripts, no style sheets, no links to other files, and no names of elements that could clash with others."""
    document = summaries("harmless", 3)[name]
    for tag, attributes in Structure(document).elements:
        assert tag in ALLOWED
        assert not [attribute for attribute in attributes if attribute.startswith("on") or attribute in ("id", "class")]
    assert "url(" not in document
    assert [source[:21] for source in re.findall('src="([^"]*)', document)] == ["data:image/png;base64"] * len(
        images(document)
    )
    assert not re.search(r"#[0-9a-f]{3,6}\b|black|white", document)  # colours are those of the notebook


def test_the_largest_content_stays_under_100_kb() -> None:
    for name, document in summaries("&<猫>\u202e" * 3000, 400, NOISE).items():
        assert len(document.encode()) < 100_000, name


def test_many_words_are_cut() -> None:
    trace = trace_with(image=NOISE)
    trace.words[:] = [dv.Word("w" * 500, (1,), "word")] * 3000
    document = trace._repr_html_()
    assert len(document.encode()) < 100_000
    assert "and 2952 more" in document


@pytest.mark.parametrize("size", [(8, 12), (64, 96), (128, 128), (1, 90)])
def test_a_small_image_of_a_trace_is_shown_exactly(size: tuple[int, int]) -> None:
    trace = trace_with(image=NOISE[: size[0], : size[1]])
    (shown,) = images(trace._repr_html_())
    np.testing.assert_array_equal(shown, trace.image)


def test_a_large_image_is_reduced_and_keeps_its_shape() -> None:
    rows = np.linspace(0, 255, 700)[:, None, None]
    trace = trace_with(image=np.broadcast_to(rows, (700, 900, 3)).astype(np.uint8))
    (shown,) = images(trace._repr_html_())
    assert shown.shape[1] == 256
    assert shown.shape[0] == pytest.approx(256 * 7 / 9, abs=1)
    np.testing.assert_allclose(shown[:, 128, 0], np.linspace(0, 255, len(shown)), atol=2)


def test_a_trace_shows_prompt_words_steps_and_seed() -> None:
    trace = make_trace(negative=True)
    trace.meta["planned_steps"] = 5
    shown = texts(trace._repr_html_())
    for expected in ("3 of 5 steps", "seed 7", "DDIMScheduler", trace.prompt, "negative: red"):
        assert expected in shown
    assert "endoftext" not in shown
    assert re.findall("<s>.*?</s>", trace._repr_html_()) == ["<s><bdi>lost</bdi></s>"]


def test_a_trace_without_an_image_is_shown_without() -> None:
    for trace in (make_trace(steps=0), make_trace(decoder=None)):
        assert images(trace._repr_html_()) == []
        assert trace.prompt in trace._repr_html_()


def test_the_map_of_a_saliency_runs_through_the_colours_of_the_page() -> None:
    saliency = dv.Saliency("df_cam", 4, np.array([[0, 1], [np.nan, 0.5]], np.float32))
    (shown,) = images(saliency._repr_html_())
    np.testing.assert_array_equal(shown, colour_table("magma")[[[0, 255], [0, 127]]])
    assert "df_cam · step 5 · 2 × 2 · 0 to 1" in re.sub(" +", " ", texts(saliency._repr_html_()))


@pytest.mark.parametrize("fill", [np.nan, np.inf, 0, 3e38])
def test_maps_and_curves_without_a_range_are_shown(fill: float) -> None:
    assert len(images(dv.Saliency("rise", 0, np.full((4, 4), fill, np.float32))._repr_html_())) == 1
    assert "<svg" in dv.WordRelevance("early", np.ones(3, np.float32), np.full((3, 2), fill, np.float32))._repr_html_()


def test_a_sparkline_follows_its_values() -> None:
    values = np.array([0, 2, np.nan, 1, 4, np.nan], np.float32)
    first, second = points(sparkline(values, 0, 4))
    xs, ys = np.array([*first, *second]).T
    finite = np.flatnonzero(np.isfinite(values))
    assert len(first) == len(second) == 2
    np.testing.assert_allclose(np.polyval(np.polyfit(finite, xs, 1), finite), xs, atol=0.06)
    np.testing.assert_allclose((ys[0] - ys) / (ys[0] - ys[-1]), values[finite] / 4, atol=0.01)
    assert f'cx="{xs[-1]:.1f}" cy="{ys[-1]:.1f}"' in sparkline(values, 0, 4)


def test_a_long_sparkline_keeps_both_ends_and_few_points() -> None:
    (line,) = points(sparkline(np.linspace(0, 1, 5000), 0, 1))
    assert len(line) < 100
    assert line[0] == (3.0, 19.0)
    assert line[-1] == (117.0, 3.0)


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros(1), np.full(3, np.nan)], ids=["none", "single", "nan"])
def test_a_sparkline_of_hardly_any_values_is_drawn(values: np.ndarray) -> None:
    assert sparkline(values, 0, 1).count("<circle") == (len(values) == 1)


def test_scores_show_each_concept_with_its_last_value() -> None:
    cosine = np.array([[0.1, 0.2], [0.3, np.nan]], np.float32)
    scores = dv.ConceptScores(["circle", "square"], cosine, cosine, cosine, cosine[0], "a meter")
    document = scores._repr_html_()
    assert [re.sub(" +", " ", texts(row)).strip() for row in document.split("</tr>")[1:3]] == [
        "circle 0.3",
        "square –",
    ]
    assert "cosine, 0.1 to 0.3" in document
    assert document.count("<svg") == 2


def test_rows_that_are_left_out_are_counted() -> None:
    document = summaries("harmless", 400)["ConceptScores"]
    assert document.count("<svg") == MAX_ROWS
    assert f"and {400 - MAX_ROWS} more rows" in document


@pytest.mark.parametrize("name", NAMES)
def test_results_with_gaps_and_large_arrays_are_shown(name: str) -> None:
    document = results()[name]._repr_html_()
    assert "nan" not in texts(document)
    assert len(document.encode()) < 100_000


def test_a_correlation_shows_what_its_table_states() -> None:
    rho = np.array([[[0.5, np.nan]]])
    result = dv.StepCorrelation(
        ["attention"], ["red"], ["circle", "square"], np.ones((1, 1, 6), np.float32), np.ones((6, 2), np.float32),
        rho, rho, rho * 0.01, rho, "levels", "effective", "holm",
    )  # fmt: skip
    shown = re.sub(" +", " ", texts(result._repr_html_()))
    assert "red 0.50* –" in shown
    assert result.table().splitlines()[-1].replace("\\*", "*") in shown
