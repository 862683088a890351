"""Words weighted, dropped and switched in videos: equal to a naive implementation in every frame."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

import diffvis_widget as dv
from diffvis_widget import intervene
from diffvis_widget.traces import Trace
from tests.intervene.naive import Naive, computed
from tests.pipelines_video import VIDEOS
from tests.pipelines_video_frames import FRAME_VIDEOS, FRAMES
from tests.pipelines_video_joint import JOINT_VIDEOS
from tests.tracer.recorder import recording
from tests.tracer.reference import assert_stored

PROMPT = "a red circle above a blue square"
FRAMES_IN_BATCH = ("animatediff", "animatediff-xl", "i2vgen", "latte")
CASES = VIDEOS | FRAME_VIDEOS | {name: JOINT_VIDEOS[name] for name in ("hunyuan", "mochi", "hunyuan15")}
# where the text lies in the keys, and the video in the queries
PLACES = {
    "wan": (slice(0, 24), slice(None)),
    "ltx": (slice(0, 24), slice(None)),
    "cogvideox": (slice(0, 24), slice(24, None)),
    "animatediff": (slice(0, 77), slice(None)),
    "i2vgen": (slice(0, 77), slice(None)),
    "mochi": (slice(18, None), slice(0, 18)),
    "hunyuan15": (slice(18, None), slice(0, 18)),
}


@functools.cache
def built(name: str) -> Any:
    return CASES[name].build()


def call(name: str, *interventions: intervene.Intervention, **more: Any) -> np.ndarray:
    arguments = {"prompt": PROMPT, "output_type": "np", **CASES[name].arguments, **more}
    torch.manual_seed(0)  # I2VGen-XL encodes its image without the call's generator
    with intervene.on(built(name), *interventions):
        return np.asarray(built(name)(**arguments, generator=torch.Generator().manual_seed(3)).frames)


def traced(name: str, *interventions: intervene.Intervention) -> Trace:
    return dv.trace(built(name), PROMPT, seed=3, keep="layers", interventions=interventions, **CASES[name].arguments)


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.filterwarnings("ignore:In CPU autocast", "ignore:User provided device_type")
def test_weights_and_dropped_words_equal_a_naive_implementation(name: str) -> None:
    pipe = built(name)
    plain = call(name)
    words = {word.text: word for word in traced(name).words}
    two_calls = CASES[name].guided == "two calls"
    text, image = PLACES[name]
    reference = Naive(
        row=0 if two_calls else 1,
        text=text,
        image=image,
        factors=dict.fromkeys(words["red"].tokens, 3.0),
        hidden=list(words["square"].tokens),
        steps=range(0, 4, 2) if two_calls else range(2),
        frames=FRAMES if name in FRAMES_IN_BATCH else 1,
    )
    torch.manual_seed(0)
    with computed(pipe, reference):
        expected = np.asarray(
            pipe(
                **{"prompt": PROMPT, "output_type": "np", **CASES[name].arguments},
                generator=torch.Generator().manual_seed(3),
            ).frames
        )
    changed = call(name, intervene.weight("red", 3.0), intervene.drop("square"))
    assert np.abs(expected - plain).max() > 1e-4
    np.testing.assert_allclose(changed, expected, atol=2e-5)
    assert np.array_equal(call(name, intervene.weight("red", 1.0)), plain)
    assert np.array_equal(call(name), plain)


@pytest.mark.parametrize("name", ["wan", "cogvideox", "hunyuan", "latte"])
def test_a_trace_records_the_changed_run(name: str) -> None:
    before, after = traced(name), traced(name, intervene.drop("red"))
    assert [item["kind"] for item in after.meta["interventions"]] == ["drop"]
    assert after.frame_count == before.frame_count > 1
    assert np.abs(after.latents[-1] - before.latents[-1]).max() > 0
    assert after.heat_map("red", frame="all").max() == 0
    assert before.heat_map("red", frame="all").max() > 0


@pytest.mark.parametrize("name", ["wan", "animatediff", "animatediff-xl", "i2vgen", "mochi", "hunyuan15"])
@pytest.mark.filterwarnings("ignore:In CPU autocast", "ignore:User provided device_type")
def test_a_prompt_is_switched_within_a_video(name: str) -> None:
    plain, other = call(name), call(name, prompt="two green stars")
    switched = call(name, intervene.switch("two green stars", 0))
    np.testing.assert_allclose(switched, other, atol=1e-6)
    late = call(name, intervene.switch("two green stars", 1))
    assert np.abs(late - plain).max() > 0
    assert np.abs(late - other).max() > 0


def test_the_second_transformer_is_changed_too() -> None:
    """The last of three steps is its own."""
    plain = call("wan-two")
    assert np.abs(call("wan-two", intervene.drop("red", (2, 3))) - plain).max() > 0
    assert not any(module._forward_hooks for module in built("wan-two").transformer_2.modules())


@pytest.mark.filterwarnings("ignore:In CPU autocast", "ignore:User provided device_type")
def test_a_trace_of_rows_that_attend_apart_has_the_maps_of_each_prompt() -> None:
    """A weight makes the attention call of a row twice, which is one row all the same."""
    prompts = [PROMPT, "a red star"]
    arguments = {"prompt": prompts, "output_type": "np", **CASES["mochi"].arguments}
    with dv.Tracer(built("mochi"), interventions=[intervene.weight("red", 3.0)]) as tracer:
        built("mochi")(**arguments, generator=torch.Generator().manual_seed(3))
    for index, trace in enumerate(tracer.traces):
        with recording(built("mochi").transformer) as seen, intervene.on(built("mochi"), intervene.weight("red", 3.0)):
            built("mochi")(**arguments, generator=torch.Generator().manual_seed(3))
        for layer, maps in zip(trace.layers, trace.records[0].maps, strict=True):
            # without the prompt twice, then each prompt twice: as it is, and with the weight
            attention = seen[layer.name][2 + 2 * index]
            tokens = next(word.tokens for word in trace.words if word.text == "red")
            shares = attention.probabilities(0)[:, :18, [18 + token for token in tokens]].sum(axis=-1).mean(axis=0)
            word = next(position for position, word in enumerate(trace.words) if word.text == "red")
            assert_stored(maps[0, word].reshape(-1), shares, 1e-5)


def test_quoted_text_moves_the_words_that_are_dropped() -> None:
    """ByT5's tokens of quoted text stand between the image and the text."""
    prompt = 'A red sign that says "blue"'
    plain = call("hunyuan15", prompt=prompt)
    with intervene.on(built("hunyuan15"), intervene.drop("sign")):
        arguments = {"prompt": prompt, "output_type": "np", **CASES["hunyuan15"].arguments}
        with dv.Tracer(built("hunyuan15")) as tracer:
            changed = np.asarray(built("hunyuan15")(**arguments, generator=torch.Generator().manual_seed(3)).frames)
    assert np.abs(changed - plain).max() > 0
    assert tracer.trace.heat_map("sign", frame="all").max() == 0
    assert tracer.trace.heat_map("says", frame="all").max() > 0
