"""Z-Image Omni: lists of lists, in which the prompt is one piece of a text around references."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import diffvis_widget as dv
from diffvis_widget import explain, intervene
from diffvis_widget.explain.image_stream import ImageStream
from diffvis_widget.intervene.decision_runs import _images
from diffvis_widget.tracer import Tracer, prompt_sequence
from diffvis_widget.traces import Trace
from tests.pipelines_omni import TWO, z_image_omni
from tests.tiny_parts import random_image
from tests.tracer.families.test_editing import PROMPT, call, spans
from tests.tracer.recorder import Attention, recording
from tests.tracer.test_guided_denoiser import check

NAME = "z-image-omni-two"
OTHER = "A tiny green house, above a blue fish"


@functools.cache
def plain() -> Any:
    """Without refiners a token of the first layer is that of the arguments, and nothing else."""
    return z_image_omni(refiners=0)


def trace_of(pipe: Any, **more: Any) -> Trace:
    with Tracer(pipe, keep="heads") as tracer:
        call(NAME, pipe, **more)
    return tracer.trace


def first_attention(pipe: Any, change: Callable[[dict[str, Any]], None]) -> Attention:
    def disturb(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        lists = {name: [list(row) for row in kwargs[name]] for name in ("x", "cap_feats")}
        change(lists)
        return args, kwargs | lists

    handle = pipe.transformer.register_forward_pre_hook(disturb, with_kwargs=True)
    try:
        with recording(pipe.transformer) as calls:
            call(NAME, pipe)
    finally:
        handle.remove()
    return calls["layers.0.attention"][0]


def changed_keys(pipe: Any, name: str, item: int, place: Any) -> list[int]:
    """The keys of the prompt's row that change with one number of an argument."""

    def change(lists: dict[str, Any]) -> None:
        part = lists[name][0][item].clone()
        part[place] += 1.0
        lists[name][0][item] = part

    before, after = first_attention(pipe, lambda lists: None), first_attention(pipe, change)
    return (after.key[0] != before.key[0]).any(dim=2).any(dim=0).nonzero()[:, 0].tolist()


def test_a_changed_token_is_found_where_it_should_be() -> None:
    pipe = plain()
    trace = trace_of(pipe)
    text, image = spans(pipe, trace, first_attention(pipe, lambda lists: None))
    for word in (word for word in trace.words if word.text in ("circle", "square")):
        for token in word.tokens:
            assert changed_keys(pipe, "cap_feats", 2, token) == [text.start + token]
    tall, wide = trace.layers[0].reference_grids
    assert (tall, wide) == ((20, 16), (16, 24))
    place = (slice(None), 0, 2 * 5 + 1, 2 * 3)  # of row 5 and column 3, in latent pixels
    assert changed_keys(pipe, "x", 0, place) == [128 + 5 * 16 + 3]
    assert changed_keys(pipe, "x", 1, place) == [128 + 20 * 16 + 5 * 24 + 3]
    assert changed_keys(pipe, "x", 2, place) == [image.start + 5 * 12 + 3]


def test_references_that_do_not_fill_their_padding() -> None:
    pipe = plain()
    images = [random_image(68, 72, seed=3), random_image(64, 76, seed=4)]
    trace = trace_of(pipe, image=images)
    assert trace.layers[0].reference_grids == ((17, 18), (16, 19))
    with recording(pipe.transformer) as calls:
        call(NAME, pipe, image=images)
    shares = calls["layers.1.attention"][1].probabilities(0).mean(axis=0)
    row = shares[128 + 2 * 320]  # behind 306 tokens and 304
    starts = {"image": 128 + 2 * 320, "reference 0": 128, "reference 1": 128 + 320}
    for target, start in starts.items():
        part = trace.attention_from((0, 0), 1, 1, target)  # pyright: ignore[reportArgumentType]
        np.testing.assert_allclose(part.ravel(), row[start : start + part.size], atol=1e-5)


def test_rows_of_a_batch_have_their_own_words_and_places() -> None:
    pipe = plain()
    prompts, negative = [PROMPT, "a house"], ["grass", "tiny"]
    with Tracer(pipe, keep="heads") as tracer:
        call(NAME, pipe, prompt=list(prompts), negative_prompt=list(negative), num_images_per_prompt=2)
    assert [trace.prompt for trace in tracer.traces] == [prompts[0]] * 2 + [prompts[1]] * 2
    for trace in tracer.traces:
        assert "".join(word.text for word in trace.words if word.kind == "word") == trace.prompt.replace(" ", "")
        assert trace.negative is not None
        assert [word.text for word in trace.negative.words if word.kind == "word"] == [trace.negative_prompt]
    together = tracer.traces[2]
    start = together.latents[:1]
    alone = trace_of(pipe, prompt="a house", negative_prompt="grass", latents=dv.denoiser(together, 0)._tensor(start))
    np.testing.assert_allclose(together.heat_maps(), alone.heat_maps(), atol=2e-3)
    np.testing.assert_allclose(together.attention_from((0.4, 0.6), 0), alone.attention_from((0.4, 0.6), 0), atol=1e-4)


@pytest.mark.parametrize("prompt", ["user", "vision_start", "assistant"])
def test_a_prompt_that_a_template_contains(prompt: str) -> None:
    trace = trace_of(plain(), prompt=prompt)
    assert "".join(word.text for word in trace.words if word.kind == "word") == prompt


def test_a_negative_prompt_that_the_prompt_contains() -> None:
    trace = trace_of(plain(), negative_prompt="blue")
    assert trace.negative is not None
    assert [word.text for word in trace.negative.words if word.kind == "word"] == ["blue"]
    with recording(plain().transformer) as calls:
        call(NAME, plain(), negative_prompt="blue")
    attention = calls["layers.0.attention"][0]
    shares = attention.probabilities(1).mean(axis=0)
    _, image = spans(plain(), trace, attention)
    index, word = next((index, word) for index, word in enumerate(trace.negative.words) if word.text == "blue")
    expected = shares[image][:, [64 + token for token in word.tokens]].sum(axis=1).reshape(trace.layers[0].grid)
    np.testing.assert_allclose(trace.negative.heat_map(index, step=0, layer=0), expected, atol=5e-4)


@pytest.mark.parametrize("images", [1, 2])  # of two images and two references, rows are as many as pieces
def test_switched_at_once_it_is_the_other_prompts_run(images: int) -> None:
    pipe = z_image_omni()
    more: dict[str, Any] = {"num_images_per_prompt": images}

    def negative() -> dict[str, Any]:  # the pipeline writes into the list
        return more | {"negative_prompt": ["fog"]}

    expected = call(NAME, pipe, prompt=[OTHER], **negative())
    with intervene.on(pipe, intervene.switch(OTHER, 0)), Tracer(pipe) as tracer:
        assert np.array_equal(call(NAME, pipe, prompt=[PROMPT], **negative()), expected)
    assert "house" in {word.text for word in tracer.traces[-1].words}


def test_a_weight_is_that_of_the_value_rows() -> None:
    """With a weight of 0 the image attends to the word as before, and takes nothing from it."""
    pipe = plain()
    before = call(NAME, pipe)
    with intervene.on(pipe, intervene.weight("circle", 1.0)):
        assert np.array_equal(call(NAME, pipe), before)
    with intervene.on(pipe, intervene.weight("circle", 0.0)), recording(pipe.transformer) as calls:
        changed = call(NAME, pipe)
    assert not np.array_equal(changed, before)
    text, _ = spans(pipe, trace_of(pipe), calls["layers.0.attention"][0])
    weighted = next(attention for attention in calls["layers.0.attention"] if len(attention.query) == 1)
    zero = (weighted.value[0] == 0).all(dim=2).all(dim=0).nonzero()[:, 0].tolist()
    word = next(word for word in trace_of(pipe).words if word.text == "circle")
    assert zero == [text.start + token for token in word.tokens]


def test_the_images_of_a_decision_curve_are_those_of_single_runs() -> None:
    pipe = z_image_omni()
    arguments: dict[str, Any] = {"image": TWO, "height": 32, "width": 48, "max_sequence_length": 64}
    evaluated: list[int] = []
    handle = pipe.transformer.register_forward_pre_hook(lambda module, args: evaluated.append(len(args[0])))
    together = _images(pipe, PROMPT, OTHER, 5, 2, [0, 1, 2], arguments)
    handle.remove()
    assert evaluated == [4, 6]  # both halves of what is switched, and one for all that is not yet
    for step, image in zip([0, 1, 2], together, strict=True):
        switch = [intervene.switch(OTHER, step)] if step < 2 else []
        alone = dv.trace(pipe, PROMPT, seed=5, num_inference_steps=2, interventions=switch, **arguments).image
        assert np.abs(alone.astype(int) - image).max() <= 4
    assert not np.array_equal(together[0], together[2])


def test_the_denoiser_is_evaluated_again_with_its_references() -> None:
    arguments: dict[str, Any] = {"image": TWO, "height": 32, "width": 48, "max_sequence_length": 64}
    traces = check(plain(), guidance_scale=4.0, num_images_per_prompt=2, **arguments)
    probe = dv.denoiser(traces[1], 0)
    latents = np.stack([traces[1].latents[0], traces[0].latents[0]])
    np.testing.assert_allclose(probe(latents)[0], probe(latents[:1])[0], atol=1e-4)


def test_explanations_find_the_image_among_its_references() -> None:
    """A change of one square of the latents shows most at its own position of the first block's image."""
    pipe = plain()
    trace = trace_of(pipe)
    probe = dv.denoiser(trace, 1)
    height, width = trace.latents.shape[2:]
    image = ImageStream(probe.family, (height, width), probe.joined, prompt_sequence(probe).layout)
    outputs: list[Any] = []
    handle = probe.module.get_submodule("layers.0").register_forward_hook(
        lambda module, args, output: outputs.append(image.lay(image.pick(output))[0])
    )
    changed = probe.latents.clone()
    changed[:, :, 10:12, 6:8] += 10.0
    for latents in (probe.latents, changed):
        probe(latents)
    handle.remove()
    difference = (outputs[1] - outputs[0]).norm(dim=0)
    assert divmod(int(difference.argmax()), difference.shape[1]) == (5, 3)
    assert explain.df_cam(trace, 1).map.max() > 0
    relevance = explain.relevance_of(pipe, trace, progress=False)
    typed = [index for index, word in enumerate(trace.words) if word.kind == "word"]
    assert relevance.maps.shape[2:] == trace.layers[0].grid
    assert (relevance.raw[:, typed] > 0).all()


def test_the_stored_table_is_that_of_single_positions() -> None:
    pipe = plain()
    trace = trace_of(pipe)
    stored = trace.keep_attention([1])
    assert stored.reference_grids == ((20, 16), (16, 24))
    rows = stored.rows
    assert rows is not None
    expected = [trace.attention_from((0.99, 0.99), 1, to=to).ravel() for to in ("image", "reference 0", "reference 1")]
    np.testing.assert_allclose(rows[0][-1].astype(np.float32), np.concatenate(expected), atol=1e-5, rtol=2.0**-10)
