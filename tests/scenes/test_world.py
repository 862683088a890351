"""The scenes world: captions, held-out combinations and ground truth."""

import numpy as np
import pytest

from diffvis_widget import scenes
from diffvis_widget.scenes.render import sketch
from diffvis_widget.scenes.world import (
    COLOURS,
    SETTINGS,
    SHAPES,
    caption,
    sample_spec,
    unknown_words,
    vocabulary,
    vocabulary_groups,
)

SEEDS = range(60)


def test_a_seed_gives_the_same_scene_twice_and_another_seed_another():
    first, again, other = scenes.draw(5), scenes.draw(5), scenes.draw(6)
    assert np.array_equal(first.image, again.image)
    assert first.caption == again.caption
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_mention_is_a_word_of_the_caption_and_has_a_mask(seed: int):
    scene = scenes.draw(seed)
    assert scene.image.shape == (96, 96, 3)
    assert scene.image.dtype == np.uint8
    assert len(scene.masks) == len(scene.mentions)
    for mention, mask in zip(scene.mentions, scene.masks, strict=True):
        word = scene.caption[mention.start : mention.end]
        spec = scene.sketch.spec
        truth = {
            "object": lambda t: t.shape,
            "colour": lambda t: t.colour,
            "size": lambda t: t.size,
            "texture": lambda t: t.texture,
        }
        if mention.thing is None:
            assert word == spec.setting
        else:
            assert word == truth[mention.role](spec.things[mention.thing])
        assert mask.shape == (96, 96)
        assert 0 < mask.sum() < mask.size


@pytest.mark.parametrize("seed", SEEDS)
def test_a_mask_is_where_the_colour_is(seed: int):
    scene = scenes.draw(seed)
    for mention, mask in zip(scene.mentions, scene.masks, strict=True):
        thing = None if mention.thing is None else scene.sketch.things[mention.thing]
        alone = thing is not None and sum(other.colour == thing.colour for other in scene.sketch.things) == 1
        if mention.role == "object" and thing is not None and thing.texture is None and alone:
            assert thing.colour is not None
            distance = np.abs(scene.image.astype(int) - COLOURS[thing.colour]).sum(axis=2)
            near = distance < 12
            assert near[mask].mean() > 0.25
            assert near[~mask].mean() < 0.01


@pytest.mark.parametrize("seed", SEEDS)
def test_things_stand_as_the_caption_says(seed: int):
    plan = sketch(seed)
    if plan.spec.relation in ("above", "below", "left", "right"):
        (first, second) = plan.poses
        dx, dy = second.x - first.x, second.y - first.y
        along = {"above": dy, "below": -dy, "left": dx, "right": -dx}[plan.spec.relation]
        assert along >= first.r + second.r
    for pose in plan.poses:
        assert pose.r <= pose.x <= 96 - pose.r
        assert pose.r <= pose.y <= 96 - pose.r


def test_training_and_test_share_no_combination():
    rng = np.random.default_rng(0)
    training = {sample_spec(rng, held_out=False) for _ in range(400)}
    tests = {sample_spec(rng, held_out=True) for _ in range(400)}
    assert not training & tests
    assert len(tests) > 300


def test_every_word_of_a_caption_is_in_the_vocabulary():
    words: set[str] = set()
    rng = np.random.default_rng(1)
    for _ in range(1500):
        words |= set(caption(sample_spec(rng), rng).text.split())
    assert words <= vocabulary()
    assert set(SHAPES) | set(COLOURS) | set(SETTINGS) <= words


def test_the_groups_hold_the_whole_vocabulary():
    groups = vocabulary_groups()
    assert {word for phrases in groups.values() for phrase in phrases for word in phrase.split()} == vocabulary()
    assert (groups["shapes"], groups["colours"]) == (list(SHAPES), list(COLOURS))


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("a red circle above a blue square", []),
        ("A RED circle, at night!", []),
        ("a red elephant and an elephant", ["elephant"]),
        ("", []),
        ("ein roter Kreis", ["ein", "roter", "kreis"]),
        ("a 🎈 on the קיר", ["קיר"]),
    ],
)
def test_unknown_words_are_those_training_never_said(prompt: str, unknown: list[str]):
    assert unknown_words(prompt) == unknown
