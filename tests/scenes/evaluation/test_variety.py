"""The measures of binding and diversity, on images whose content is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from diffvis_widget.scenes import WEIGHTS
from diffvis_widget.scenes.evaluation.judge import load_judge
from diffvis_widget.scenes.evaluation.variety import (
    VARIED,
    binds_colours,
    object_outline,
    relative_distance,
    rendered_outlines,
    swap_colours,
    swapped_pairs,
)
from diffvis_widget.scenes.render import paint, sketch, sketch_of
from diffvis_widget.scenes.world import Spec, Thing


def test_a_rendering_is_told_from_the_one_with_exchanged_colours():
    judge = load_judge(WEIGHTS / "judge.safetensors")
    pairs = list(swapped_pairs(10))
    rng = np.random.default_rng(3)
    images = np.stack([paint(sketch_of(spec, rng)).image for pair in pairs for spec in pair])
    verdicts = judge.detect(images)
    right = [
        binds_colours(caption_spec, verdict)
        for (spec, swapped), verdict_of_spec, verdict_of_swapped in zip(
            pairs, verdicts[::2], verdicts[1::2], strict=True
        )
        for caption_spec, verdict in ((spec, verdict_of_spec), (swapped, verdict_of_swapped))
    ]
    wrong = [
        binds_colours(caption_spec, verdict)
        for (spec, swapped), verdict_of_spec, verdict_of_swapped in zip(
            pairs, verdicts[::2], verdicts[1::2], strict=True
        )
        for caption_spec, verdict in ((swapped, verdict_of_spec), (spec, verdict_of_swapped))
    ]
    assert np.mean(right) >= 0.9
    assert not any(wrong)


def test_swapped_meanings_differ_in_their_colours_only():
    for spec, swapped in swapped_pairs(20):
        assert spec.held_out
        assert swap_colours(swapped) == spec
        assert [thing.shape for thing in swapped.things] == [thing.shape for thing in spec.things]
        assert [thing.colour for thing in swapped.things] == [thing.colour for thing in reversed(spec.things)]


def test_a_sketch_of_a_meaning_is_the_one_that_its_seed_draws():
    drawn = sketch(5)
    rng = np.random.default_rng([5, 96])
    from diffvis_widget.scenes.world import sample_spec

    assert sketch_of(sample_spec(rng), rng) == drawn


@pytest.mark.parametrize("spec", VARIED)
def test_the_outline_is_where_the_renderer_put_the_thing(spec: Spec):
    plan = sketch_of(spec, np.random.default_rng(8))
    x, y, size, stretch = object_outline(paint(plan).image)
    (pose,) = plan.poses
    assert math.hypot(x - pose.x, y - pose.y) < pose.r / 2  # not every shape has its middle where it is placed
    assert 0.8 * pose.r < size < 2 * pose.r
    assert 0.4 < stretch < 2.5


def test_a_circle_is_measured_exactly():
    plan = sketch_of(Spec((Thing("circle", "red"),)), np.random.default_rng(8))
    (pose,) = plan.poses
    plan = replace(plan, poses=(replace(pose, tilt=0.0, aspect=1.0),))
    x, y, size, stretch = object_outline(paint(plan).image)
    assert (x, y) == pytest.approx((pose.x, pose.y), abs=0.2)
    assert size == pytest.approx(math.sqrt(math.pi) * pose.r, rel=0.05)
    assert stretch == pytest.approx(1, abs=0.03)


def test_an_empty_image_has_no_outline():
    assert np.isnan(object_outline(np.full((96, 96, 3), 240, dtype=np.uint8))).all()


def test_the_distance_is_wasserstein_s_in_spreads_of_the_second():
    rng = np.random.default_rng(0)
    a, b = rng.normal(3, 2, 400), rng.normal(0, 1, 400)
    assert relative_distance(a, b) == pytest.approx(wasserstein_distance(a, b) / b.std(), rel=0.03)
    assert relative_distance(np.append(a, np.nan), b) == relative_distance(a, b)
    assert relative_distance(b, b) == 0


def test_one_position_is_further_from_renderings_than_renderings_are():
    truth, again = rendered_outlines(VARIED[0], 64, 0), rendered_outlines(VARIED[0], 64, 1)
    still = np.full(64, 48.0)
    assert relative_distance(still, truth[:, 0]) > 3 * relative_distance(again[:, 0], truth[:, 0])
