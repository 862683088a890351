"""OmniGen: token ids of a processor, with references in places of the text."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import diffvis_widget as dv
from diffvis_widget import explain, intervene
from diffvis_widget.explain.cam import _activations
from diffvis_widget.intervene.decision_runs import _images
from diffvis_widget.tracer import Tracer
from diffvis_widget.traces import Trace
from tests.pipelines_omni import IN_PLACES, TWO, omnigen
from tests.tiny_parts import random_image
from tests.tracer.families.test_editing import PROMPT, call
from tests.tracer.recorder import Attention, recording
from tests.tracer.test_guided_denoiser import check

NAME = "omnigen-two"
OTHER = "a house, of <img><|image_1|></img>"


@functools.cache
def pipeline() -> Any:
    return omnigen()


def traces_of(**more: Any) -> tuple[list[Trace], dict[str, list[Attention]]]:
    with recording(pipeline().transformer) as calls:
        plain = call(NAME, pipeline(), **more)
    with Tracer(pipeline(), keep="heads") as tracer:
        assert np.array_equal(call(NAME, pipeline(), **more), plain)
    return tracer.traces, calls


def typed(trace: Trace) -> str:
    return "".join(word.text for word in trace.words if word.kind == "word")


def first_attention(change: Callable[[dict[str, Any]], None]) -> Attention:
    def disturb(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        copied = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in kwargs.items()}
        copied["input_img_latents"] = [part.clone() for part in kwargs["input_img_latents"]]
        change(copied)
        return args, copied

    handle = pipeline().transformer.register_forward_pre_hook(disturb, with_kwargs=True)
    try:
        with recording(pipeline().transformer) as calls:
            call(NAME, pipeline())
    finally:
        handle.remove()
    return calls["layers.0.self_attn"][0]


def changed_keys(change: Callable[[dict[str, Any]], None]) -> list[int]:
    before, after = first_attention(lambda arguments: None), first_attention(change)
    return (after.key[0] != before.key[0]).any(dim=2).any(dim=0).nonzero()[:, 0].tolist()


def test_a_changed_token_is_found_where_it_should_be() -> None:
    (trace,), calls = traces_of()
    keys = calls["layers.0.self_attn"][0].key.shape[2]

    def of_text(token: int) -> Callable[[dict[str, Any]], None]:
        return lambda arguments: arguments["input_ids"][0, token].add_(1)

    def of_reference(index: int) -> Callable[[dict[str, Any]], None]:
        return lambda arguments: arguments["input_img_latents"][index][0, :, 4, 6].add_(1)

    word = next(word for word in trace.words if word.text == "square")
    for token in word.tokens:
        assert changed_keys(of_text(token)) == [token]
    assert trace.layers[0].reference_grids == ((4, 6), (5, 4))
    places = [word.tokens for word in trace.words if "|image_" in word.text]
    assert [len(tokens) for tokens in places] == [24, 20]
    assert changed_keys(of_reference(0)) == [places[0][2 * 6 + 3]]
    assert changed_keys(of_reference(1)) == [places[1][2 * 4 + 3]]
    assert changed_keys(lambda arguments: arguments["hidden_states"][0, :, 2, 8].add_(1)) == [keys - 24 + 6 + 4]


def test_the_negative_prompt_stands_between_the_prompt_and_the_references_alone() -> None:
    (trace,), calls = traces_of()
    assert trace.negative is not None
    assert (trace.negative_prompt or "").startswith("low quality, jpeg artifacts")
    attention = calls["layers.1.self_attn"][1]
    assert len(attention.query) == 3
    shares = attention.probabilities(1).mean(axis=0)
    index, word = next((index, word) for index, word in enumerate(trace.negative.words) if word.text == "ugly")
    expected = shares[-24:, list(word.tokens)].sum(axis=1).reshape(4, 6)
    np.testing.assert_allclose(trace.negative.heat_map(index, step=1, layer=1), expected, atol=5e-4)


def test_rows_of_a_batch_have_their_own_words_and_references() -> None:
    prompts = ["two birds", "a cat beside <img><|image_1|></img>, as in <img><|image_2|></img>", OTHER]
    images = [None, TWO, [random_image(48, 48, seed=5)]]
    more: dict[str, Any] = {"num_images_per_prompt": 2}
    traces, calls = traces_of(prompt=list(prompts), input_images=images, **more)
    assert [trace.prompt for trace in traces] == [prompt for prompt in prompts for _ in range(2)]
    assert [typed(trace) for trace in traces] == [trace.prompt.replace(" ", "") for trace in traces]
    grids = [(), ((5, 4), (4, 6)), ((3, 3),)]
    assert [trace.layers[0].reference_grids for trace in traces] == [part for part in grids for _ in range(2)]
    expected = [[], TWO, images[2]]
    for trace, references in zip(traces, [part for part in expected for _ in range(2)], strict=True):
        assert len(trace.references) == len(references or ())
        for saved, reference in zip(trace.references, references or (), strict=True):
            assert np.abs(np.asarray(reference).astype(int) - saved).max() <= 1
    for row, trace in enumerate(traces):
        shares = calls["layers.1.self_attn"][1].probabilities(row).mean(axis=0)
        for index, word in enumerate(trace.words[:-1]):
            columns = shares[-24:, list(word.tokens)].sum(axis=1)
            np.testing.assert_allclose(trace.heat_maps(1, 1)[index].ravel(), columns, atol=5e-4)
    last = traces[5]
    row = last.attention_from((0.4, 0.6), 1, 1, "reference 0")
    word = next(word for word in last.words if "|image_" in word.text)
    words = last.attention_from((0.4, 0.6), 1, 1, "text")
    np.testing.assert_allclose(row.sum(), words[last.words.index(word)], atol=5e-4)


def test_a_call_with_a_list_of_no_references() -> None:
    """The pipeline evaluates the negative prompt twice then."""
    (trace,), calls = traces_of(prompt=[PROMPT], input_images=[None])
    assert len(calls["layers.0.self_attn"][0].query) == 3
    assert typed(trace) == PROMPT.replace(" ", "")
    assert trace.references == []
    assert trace.layers[0].reference_grids == ()


def test_an_image_may_stand_in_two_places() -> None:
    prompt = "<img><|image_1|></img> beside <img><|image_1|></img>"
    (trace,), _ = traces_of(prompt=prompt, input_images=TWO[:1])
    assert typed(trace) == prompt.replace(" ", "")
    assert trace.layers[0].reference_grids == ((5, 4), (5, 4))
    first, second = trace.references
    assert np.array_equal(first, second)
    rows = [trace.attention_from((0.5, 0.5), 1, to=f"reference {index}") for index in (0, 1)]
    assert np.abs(rows[0] - rows[1]).max() > 1e-5


@pytest.mark.parametrize("prompt", ["image", "instructions", "quality"])
def test_a_prompt_that_a_template_contains(prompt: str) -> None:
    traces, _ = traces_of(prompt=[prompt, "a b c"], input_images=None, output_type="np")
    assert [typed(trace) for trace in traces] == [prompt, "abc"]


def test_another_pipeline_with_such_a_processor_is_left_alone() -> None:
    pipe, other = pipeline(), omnigen()
    before = type(pipe.multimodal_processor).__call__
    with Tracer(pipe) as tracer:
        call(NAME, other)
        call(NAME, pipe)
    assert len(tracer.traces) == 1
    assert typed(tracer.trace) == IN_PLACES.replace(" ", "")
    assert type(pipe.multimodal_processor).__call__ is before


def test_with_references_the_prompt_is_not_switched() -> None:
    with (
        pytest.raises(ValueError, match="switch: the prompt of this run cannot be switched, for its references stand"),
        intervene.on(pipeline(), intervene.switch(OTHER, 1)),
    ):
        call(NAME, pipeline())
    call(NAME, pipeline())


def test_a_prompt_of_another_length_is_refused() -> None:
    long = "a red bird " * 60
    with (
        pytest.raises(ValueError, match="but both branches of a guided batch have one length"),
        intervene.on(pipeline(), intervene.switch(long, 1)),
    ):
        call(NAME, pipeline(), prompt=PROMPT, input_images=None)


@pytest.mark.parametrize("images", [1, 2])
def test_switched_at_once_it_is_the_other_prompts_run(images: int) -> None:
    pipe, more = pipeline(), {"num_images_per_prompt": images, "input_images": None}
    other = "a house above the sea"
    expected = call(NAME, pipe, prompt=other, **more)
    with intervene.on(pipe, intervene.switch(other, 0)), Tracer(pipe) as tracer:
        assert np.array_equal(call(NAME, pipe, prompt=PROMPT, **more), expected)
    assert "house" in {word.text for word in tracer.traces[-1].words}
    with intervene.on(pipe, intervene.switch(other, 1)), Tracer(pipe) as late, recording(pipe.transformer) as calls:
        changed = call(NAME, pipe, prompt=PROMPT, **more)
    assert not np.array_equal(changed, expected)
    assert not np.array_equal(changed, call(NAME, pipe, prompt=PROMPT, **more))
    shares = calls["layers.0.self_attn"][1].probabilities(0).mean(axis=0)
    trace = late.traces[0]
    word = next(word for word in trace.words if word.text == "house")
    columns = shares[-24:, list(word.tokens)].sum(axis=1).reshape(4, 6)
    np.testing.assert_allclose(trace.heat_map("house", step=1, layer=0), columns, atol=5e-4)


def test_a_decision_curve_is_refused() -> None:
    with pytest.raises(ValueError, match="a decision curve is not for OmniGenPipeline, whose images of one batch"):
        _images(pipeline(), PROMPT, OTHER, 5, 2, [0, 1], {})


@pytest.mark.parametrize("images", [TWO, [None]])  # without references, the third branch repeats the negative prompt
def test_three_branches_are_evaluated_again(images: Any) -> None:
    arguments: dict[str, Any] = {"height": 64, "width": 96, "img_guidance_scale": 1.3, "guidance_scale": 3.0}
    arguments |= {"num_images_per_prompt": 2, "input_images": images}
    arguments["prompt"] = IN_PLACES if images is TWO else [PROMPT]
    torch.manual_seed(0)
    first, second = check(pipeline(), **arguments)
    probe = dv.denoiser(second, 1)
    form = probe.guidance_form
    assert form.scale == 3.0
    if images is TWO:
        np.testing.assert_allclose(form.reference_scale or 0, 1.3, atol=1e-3)
    latents = np.stack([second.latents[1], first.latents[1]])
    np.testing.assert_allclose(probe(latents)[0], probe(latents[:1])[0], atol=1e-4)


def test_explanations_of_a_run_with_references() -> None:
    """DF-CAM's maps are of the guided sum of three branches, and relevance of the row of the prompt."""
    (trace,), _ = traces_of()
    pipe = pipeline()
    probe = dv.denoiser(trace, 1)
    assert probe.branches == ["prompt", "negative", "references"]
    block = probe.module.get_submodule("layers.1")
    outputs: list[Any] = []
    handle = block.register_forward_hook(lambda module, args, output: outputs.append(output))
    activations, _ = _activations(probe, {"layers.1": block})["layers.1"]
    handle.remove()
    prompt, negative, references = outputs[0].detach()[:, -24:]
    guided = negative + 1.6 * (references - negative) + 2.5 * (prompt - references)
    torch.testing.assert_close(activations.flatten(1).mT, guided, atol=1e-3, rtol=1e-3)
    assert explain.df_cam(trace, 1).map.max() > 0
    relevance = explain.relevance_of(pipe, trace, progress=False)
    words = [index for index, word in enumerate(trace.words) if word.kind == "word"]
    assert relevance.maps.shape[2:] == (4, 6)
    assert (relevance.raw[:, words] > 0).all()


def test_a_weight_is_that_of_the_value_rows() -> None:
    """With a weight of 0 the image attends to the word as before, and takes nothing from it."""
    before = call(NAME, pipeline())
    with intervene.on(pipeline(), intervene.weight("circle", 1.0)):
        assert np.array_equal(call(NAME, pipeline()), before)
    with intervene.on(pipeline(), intervene.weight("circle", 0.0)), recording(pipeline().transformer) as calls:
        changed = call(NAME, pipeline())
    assert not np.array_equal(changed, before)
    (trace,), _ = traces_of()
    weighted = next(attention for attention in calls["layers.0.self_attn"] if len(attention.query) == 1)
    zero = (weighted.value[0] == 0).all(dim=2).all(dim=0).nonzero()[:, 0].tolist()
    assert zero == list(next(word for word in trace.words if word.text == "circle").tokens)


def test_the_stored_table_is_that_of_single_positions() -> None:
    (trace,), _ = traces_of()
    stored = trace.keep_attention([1])
    assert stored.reference_grids == ((4, 6), (5, 4))
    rows = stored.rows
    assert rows is not None
    expected = [trace.attention_from((0.99, 0.99), 1, to=to).ravel() for to in ("image", "reference 0", "reference 1")]
    np.testing.assert_allclose(rows[0][-1].astype(np.float32), np.concatenate(expected), atol=1e-5, rtol=2.0**-10)
