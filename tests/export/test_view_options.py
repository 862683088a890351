"""Exported images show the stage's options: contours, the shared scale, a region, a method's map."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diffvis_widget as dv
from diffvis_widget.traces import Trace
from diffvis_widget.traces.colormap import colour_table, word_colours
from tests.export.test_figures import PAD, a_map, enlarged, laid_over, pixels
from tests.traces.build import make_trace


@pytest.fixture
def trace() -> Trace:
    return make_trace()


def test_contours_lie_on_the_map(trace: Trace) -> None:
    values = np.hypot(*(np.indices((8, 12)) + 0.5 - np.array([4, 6])[:, None, None]))
    trace.records[1].maps[2][0, 2] = 0.9 - values / 10  # circle: rings around the middle
    trace.records[1].maps[0][0, 2] = 0
    view_options: dict[str, Any] = {"step": 1, "words": "circle", "layer": "up.attn2", "size": 480, "caption": False}
    plain, lined = (pixels(dv.export.png(trace, **view_options, contours=contours)) for contours in (False, True))
    changed = (plain != lined).any(axis=-1)[PAD : PAD + 320, PAD : PAD + 480]
    assert 0.005 < changed.mean() < 0.1
    assert not changed[150:170, 230:250].any(), "the middle is inside the line"
    smooth = np.asarray(Image.fromarray(values.astype("f4")).resize((480, 320), Image.Resampling.BICUBIC))
    (near,) = np.nonzero(changed[160])
    crossing = np.nonzero(np.diff(smooth[160] < (values.min() + values.max()) / 2))[0]
    assert len(crossing) == 2
    assert all(np.abs(near - at).min() <= 3 for at in crossing)
    _, marked = np.nonzero((plain != lined).any(axis=-1)[PAD + 325 :])
    assert marked.size, "the colour bar has a mark at the value of the line"
    left, right = PAD + 480 // 3, PAD + 480 - 52
    assert marked.min() + marked.max() == pytest.approx(left + right - 1, abs=2)
    two = {**view_options, "words": ["circle", "red"], "layer": None}
    coloured = pixels(dv.export.png(trace, **two, contours=True))
    for hue in word_colours(["circle", "red"]):
        assert (np.abs(coloured.astype(int) - hue).sum(axis=-1) < 12).any(), "a line in the colour of its word"


def test_contours_without_a_map_change_nothing(trace: Trace) -> None:
    plain, lined = (dv.export.png(trace, step=1, contours=contours) for contours in (False, True))
    np.testing.assert_array_equal(pixels(plain), pixels(lined))


def test_a_shared_scale_is_that_of_all_words_and_steps(trace: Trace) -> None:
    typed = [index for index, word in enumerate(trace.words) if word.kind == "word"]
    values = np.stack([trace.heat_maps(step=step)[typed] for step in range(3)])
    lo, hi = float(values.min()), float(values.max())
    plain_strip = pixels(dv.export.filmstrip(trace))
    for step in range(3):
        whole = pixels(
            dv.export.png(trace, step=step, words="circle", opacity=1, size=480, contours=False, shared_scale=True)
        )
        heat_map = np.asarray(
            Image.fromarray(trace.heat_map("circle", step)).resize((480, 320), Image.Resampling.BICUBIC)
        )
        ground = enlarged(trace.frames("prediction")[step], (480, 320))
        expected = laid_over(ground, heat_map, lo, hi)
        np.testing.assert_allclose(whole[PAD : PAD + 320, PAD : PAD + 480], expected, atol=0.51)
        strip = pixels(dv.export.filmstrip(trace, words="circle", opacity=1, contours=False, shared_scale=True))
        small = np.asarray(Image.fromarray(trace.heat_map("circle", step)).resize((96, 64), Image.Resampling.BICUBIC))
        tile, ground = (image[4:68, 4 + step * 100 : 100 + step * 100] for image in (strip, plain_strip))
        np.testing.assert_allclose(tile, laid_over(ground, small, lo, hi), atol=0.51)
    scaled_per_word = dv.export.filmstrip(trace, words="circle", opacity=1)
    assert scaled_per_word != dv.export.filmstrip(trace, words="circle", opacity=1, shared_scale=True)
    assert dv.export.png(trace, step=1, shared_scale=True) == dv.export.png(trace, step=1), "nothing is coloured"


def test_a_place_is_framed_by_the_cells_that_it_touches(trace: Trace) -> None:
    plain = pixels(dv.export.png(trace, step=1, size=480))
    for region in ((0.3, 0.3, 0.6, 0.6), (0.26, 0.26, 0.65, 0.61)):  # of 12 x 8 cells the same ones
        framed = pixels(dv.export.png(trace, step=1, size=480, region=region))
        rows, columns = np.nonzero((plain != framed).any(axis=-1))
        edges = [columns.min() - PAD, rows.min() - PAD, columns.max() - PAD, rows.max() - PAD]
        assert edges == pytest.approx([3 * 40, 2 * 40, 8 * 40, 5 * 40], abs=5)
        assert (framed[PAD + 80, PAD + 150] == 255).all()
        inside = np.s_[PAD + 100 : PAD + 180, PAD + 140 : PAD + 300]
        np.testing.assert_array_equal(framed[inside], plain[inside])
    point = pixels(dv.export.png(trace, step=1, size=480, region=(1, 1, 1, 1)))
    assert not (point == plain)[PAD + 282 : PAD + 318, PAD + 440].all(), "the last cell"
    strip, framed = (pixels(dv.export.filmstrip(trace, region=region)) for region in (None, (0, 0, 0.5, 0.5)))
    assert all((strip != framed)[4:68, left : left + 96].any() for left in (4, 104, 204)), "on every step"


def test_a_method_lies_on_the_steps_that_have_its_map(trace: Trace) -> None:
    trace.saliency = [a_map(1, 1), a_map(2, 2, "df_rise"), a_map(1, -3)]
    laid, plain = (
        pixels(dv.export.filmstrip(trace, contours=False, **passed))
        for passed in ({"saliency": "df_cam", "opacity": 1}, {})
    )
    np.testing.assert_array_equal(laid[4:68, 4:100], plain[4:68, 4:100])
    np.testing.assert_array_equal(laid[4:68, 204:300], plain[4:68, 204:300])
    newest = np.asarray(Image.fromarray(trace.saliency[2].map).resize((96, 64), Image.Resampling.BICUBIC))
    expected = laid_over(plain[4:68, 104:200], newest, -3, 0)
    np.testing.assert_allclose(laid[4:68, 104:200], expected, atol=0.51)
    assert dv.export.filmstrip(trace, saliency=trace.saliency[2], opacity=1) == dv.export.filmstrip(
        trace, saliency="df_cam", opacity=1
    )
    named, passed = (dv.export.png(trace, step=1, saliency=saliency) for saliency in ("df_cam", trace.saliency[2]))
    assert named == passed
    assert named != dv.export.png(trace, step=1, saliency=trace.saliency[0])
    with Image.open(io.BytesIO(dv.export.webp(trace, saliency="df_cam", opacity=1, size=96))) as moving:
        for index, expected in enumerate((plain[4:68, 4:100], laid[4:68, 104:200], plain[4:68, 204:300])):
            moving.seek(index)
            assert np.abs(np.asarray(moving.convert("RGB"), dtype=float) - expected).mean() < 8


@pytest.mark.parametrize("make", [dv.export.webp, dv.export.gif])
def test_an_animation_shows_what_a_figure_does(trace: Trace, make: Any) -> None:
    shown: dict[str, Any] = {
        "words": ["circle", "red"],
        "contours": False,
        "shared_scale": True,
        "region": (0, 0, 0.4, 0.9),
    }

    def figure(step: int, **shown: Any) -> np.ndarray:
        return pixels(dv.export.png(trace, step=step, size=240, **shown))[PAD : PAD + 160, PAD : PAD + 240].astype(
            float
        )

    with Image.open(io.BytesIO(make(trace, size=240, **shown))) as moving:
        for step in range(3):
            moving.seek(step)
            frame = np.asarray(moving.convert("RGB"))
            shift = np.abs(figure(step, **shown) - frame).mean()
            for missing, nothing in (("contours", True), ("shared_scale", False), ("region", None)):
                assert shift < np.abs(figure(step, **{**shown, missing: nothing}) - frame).mean(), missing


def test_a_strip_says_what_its_colours_mean(trace: Trace) -> None:
    plain = pixels(dv.export.filmstrip(trace))
    strip = pixels(dv.export.filmstrip(trace, words=["circle"]))
    shared = pixels(dv.export.filmstrip(trace, words=["circle", "red"], shared_scale=True))
    assert len(plain) < len(strip) <= len(shared)
    end = colour_table("viridis")[253].astype(int)
    assert (np.abs(strip[len(plain) :] - end).sum(axis=-1) < 12).any()
    for hue in word_colours(["circle", "red"]):
        assert (np.abs(shared[len(plain) :].astype(int) - hue).sum(axis=-1) < 12).any()


def test_a_word_that_was_not_in_force_is_told(trace: Trace) -> None:
    for maps in trace.records[1].maps:
        maps[0, 2] = np.nan
    ground = enlarged(trace.frames("prediction")[1], (480, 320))
    whole = pixels(dv.export.png(trace, step=1, words="circle", size=480, contours=True))
    np.testing.assert_array_equal(whole[PAD : PAD + 320, PAD : PAD + 480], ground)
    assert whole.shape == pixels(dv.export.png(trace, step=0, words="circle", size=480)).shape, "it keeps its line"
