"""Words weighted and dropped: equal to a naive implementation, and to nothing at all where nothing is asked."""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor

from diffvis_widget import intervene
from diffvis_widget.tracer import Tracer, trace
from diffvis_widget.traces.selectors import pick_words
from tests import pipelines, pipelines_joint
from tests.intervene.naive import Naive, computed
from tests.tiny_parts import stirred
from tests.tracer.test_removal import Fault, fail_at
from tests.tracer.test_transparency import snapshot

PROMPT = "a red circle above a blue square"
SHORT = {"max_sequence_length": 24, "height": 32, "width": 48}


def louder(pipe: Any) -> Any:
    """Weights with which the prompt matters more than in a U-Net as it is made."""
    stirred(pipe.unet)
    return pipe


BUILD: dict[str, Any] = {
    "sd": lambda: louder(pipelines.stable_diffusion()),
    "sdxl": lambda: louder(pipelines.stable_diffusion_xl()),
    "sd3": pipelines_joint.stable_diffusion_3,
    "flux": pipelines_joint.flux,
}
CALLS: dict[str, dict[str, Any]] = {"sd": {}, "sdxl": {}, "sd3": {**SHORT, "guidance_scale": 5.0}, "flux": SHORT}


@functools.cache
def built(name: str) -> Any:
    return BUILD[name]()


def call(pipe: Any, name: str, *interventions: intervene.Intervention, **more: Any) -> np.ndarray:
    arguments = {"prompt": PROMPT, "num_inference_steps": 3, "output_type": "np", **CALLS[name], **more}
    with intervene.on(pipe, *interventions):
        return pipe(**arguments, generator=torch.Generator().manual_seed(3)).images


NOTHING = {
    "weight 1": [intervene.weight("red", 1.0)],
    "an empty range": [intervene.weight("red", 4.0, (2, 2)), intervene.drop("blue", (1, 1))],
    "the same prompt": [intervene.switch(PROMPT, 1)],
    "switched at the end": [intervene.switch("a green star", 3)],
    "together": [intervene.weight("red", 1.0), intervene.switch(PROMPT, 0), intervene.drop("red", (3, None))],
}


@pytest.mark.parametrize("name", BUILD)
def test_what_changes_nothing_changes_no_bit(name: str) -> None:
    pipe = built(name)
    torch.manual_seed(5)
    arguments = {"prompt": PROMPT, "num_inference_steps": 3, "output_type": "np", **CALLS[name]}
    plain = pipe(**arguments, generator=torch.Generator().manual_seed(3)).images
    before = snapshot(pipe)
    state = torch.get_rng_state()
    for interventions in NOTHING.values():
        torch.manual_seed(5)
        assert np.array_equal(call(pipe, name, *interventions), plain)
        assert torch.equal(torch.get_rng_state(), state)
    assert before is None or snapshot(pipe) == before


def naive(pipe: Any, name: str, weights: dict[str, float], dropped: list[str], steps: range) -> Naive:
    """The reference for the prompt of these tests, its words where the tracer finds them."""
    with Tracer(pipe) as tracer:
        call(pipe, name)
    trace = tracer.trace
    factors = {
        position: factor
        for word, factor in weights.items()
        for index in pick_words(trace.words, word)
        for position in trace.words[index].tokens
    }
    hidden = [item for word in dropped for index in pick_words(trace.words, word) for item in trace.words[index].tokens]
    text = 1 + max(position for word in trace.words for position in word.tokens)
    cells = trace.layers[0].grid[0] * trace.layers[0].grid[1]
    places = {
        "sd3": (slice(cells, cells + text), slice(0, cells)),
        "flux": (slice(0, text), slice(text, text + cells)),
    }
    where = places.get(name, (slice(0, text), slice(None)))
    return Naive(0 if name == "flux" else 1, *where, factors, hidden, steps)


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("kind", ["weight", "negative", "drop", "both"])
def test_against_a_naive_implementation(name: str, kind: str) -> None:
    pipe = built(name)
    weights = {"weight": {"red": 3.0}, "negative": {"blue square": -2.0}, "both": {"red": 3.0, "circle": 0.0}}
    dropped = ["square", "a"] if kind in ("drop", "both") else []
    interventions: list[Any] = [
        intervene.weight(word, factor, (1, 3)) for word, factor in weights.get(kind, {}).items()
    ]
    if dropped:
        interventions.append(intervene.drop([*dropped], (1, 3)))
    with computed(pipe, naive(pipe, name, weights.get(kind, {}), dropped, range(1, 3))):
        expected = call(pipe, name)
    plain = call(pipe, name)
    assert np.abs(expected - plain).max() > 1e-3
    np.testing.assert_allclose(call(pipe, name, *interventions), expected, atol=2e-4)


@pytest.mark.parametrize("slices", [None, 1, 2])
def test_eager_and_sliced_attention(slices: int | None) -> None:
    pipe = pipelines.stable_diffusion()
    interventions = [intervene.weight("red", 3.0), intervene.drop("square", (1, 3))]
    expected = call(pipe, "sd", *interventions)
    if slices is None:
        pipe.unet.set_attn_processor(AttnProcessor())
    else:
        pipe.enable_attention_slicing(slices)
    np.testing.assert_allclose(call(pipe, "sd", *interventions), expected, atol=2e-4)
    frozen = trace(pipe, "a green star", seed=3, num_inference_steps=3)
    sliced = call(pipe, "sd", intervene.freeze(frozen, 2))
    pipe.unet.set_default_attn_processor()
    whole = trace(pipe, "a green star", seed=3, num_inference_steps=3)
    np.testing.assert_allclose(sliced, call(pipe, "sd", intervene.freeze(whole, 2)), atol=2e-4)


def test_half_precision_and_one_call_without_guidance() -> None:
    pipe = pipelines.stable_diffusion().to(torch.float16)
    changed = call(pipe, "sd", intervene.weight("red", 1.7), guidance_scale=1.0)
    assert np.isfinite(changed).all()
    assert np.abs(changed - call(pipe, "sd", guidance_scale=1.0)).max() > 0


@pytest.mark.parametrize("name", ["sd", "sd3"])
def test_every_image_of_a_batch_has_its_own_words(name: str) -> None:
    pipe = built(name)
    prompts = ["a red circle", "a big old house by the red sea"]
    start = torch.randn(1, *pipe_latents(name), generator=torch.Generator().manual_seed(1))
    both = call(pipe, name, intervene.drop("red"), prompt=prompts, latents=torch.cat([start, start]))
    for prompt, image in zip(prompts, both, strict=True):
        alone = call(pipe, name, intervene.drop("red"), prompt=prompt, latents=start)[0]
        np.testing.assert_allclose(image, alone, atol=2e-3)
    plain = call(pipe, name, prompt=prompts, latents=torch.cat([start, start]))
    only = call(pipe, name, intervene.drop("house"), prompt=prompts, latents=torch.cat([start, start]))
    np.testing.assert_allclose(only[0], plain[0], atol=1e-4)
    assert np.abs(only[1] - plain[1]).max() > 1e-3


def pipe_latents(name: str) -> tuple[int, int, int]:
    return (4, 16, 16) if name == "sd" else (16, 16, 24)


def test_a_weight_leaves_the_unconditional_half() -> None:
    """With the prompt's rows at scale 0 in the mix, only the negative half would paint: it must not have changed."""
    pipe = built("sd")
    traces = [trace(pipe, PROMPT, seed=1, num_inference_steps=1, negative_prompt="red")]
    traces.append(
        trace(
            pipe, PROMPT, seed=1, num_inference_steps=1, negative_prompt="red",
            interventions=[intervene.weight("red", 9.0), intervene.drop("square")],
        )
    )  # fmt: skip
    maps = [item.negative.heat_maps() for item in traces if item.negative is not None]
    assert np.array_equal(maps[0], maps[1], equal_nan=True)


def test_nested_blocks_are_one_list() -> None:
    pipe = built("sd")
    parts = [intervene.weight("red", 2.0), intervene.drop("square", (1, 2)), intervene.switch("a red star", 2)]
    expected = call(pipe, "sd", *parts)
    with intervene.on(pipe, parts[0]), intervene.on(pipe, parts[2]):
        assert np.array_equal(call(pipe, "sd", parts[1]), expected)
    with Tracer(pipe, interventions=[parts[1]]), intervene.on(pipe, parts[2], parts[0]):
        assert np.array_equal(call(pipe, "sd"), expected)
    changed = trace(pipe, PROMPT, seed=3, num_inference_steps=3, interventions=parts)
    with intervene.on(pipe, *parts):  # dv.trace works on a copy of the pipeline
        assert np.array_equal(trace(pipe, PROMPT, seed=3, num_inference_steps=3).latents, changed.latents)
    assert [item["kind"] for item in changed.meta["interventions"]] == ["weight", "drop", "switch"]
    assert "interventions" not in trace(pipe, PROMPT, seed=3, num_inference_steps=1).meta


@pytest.mark.parametrize("error", [Fault, KeyboardInterrupt])
def test_everything_comes_off_after_a_fault(error: type[BaseException]) -> None:
    pipe = pipelines.stable_diffusion()
    frozen = trace(pipe, "a green star", seed=3, num_inference_steps=3)
    plain = snapshot(pipe)
    site = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    handle = pipe.unet.get_submodule(site).register_forward_pre_hook(fail_at(4, error))
    before = snapshot(pipe)
    with pytest.raises(error):
        call(pipe, "sd", intervene.weight("red", 2), intervene.freeze(frozen, 2), intervene.switch("a blue star", 1))
    assert snapshot(pipe) == before
    handle.remove()
    assert snapshot(pipe) == plain
    assert np.array_equal(call(pipe, "sd", intervene.weight("red", 1)), call(pipe, "sd"))


def test_a_call_in_another_thread_passes_through() -> None:
    pipe = pipelines.stable_diffusion()
    plain = call(pipe, "sd")
    seen: list[np.ndarray] = []

    def elsewhere() -> None:
        arguments = {"prompt": PROMPT, "num_inference_steps": 3, "output_type": "np"}
        with torch.no_grad():
            seen.append(pipe(**arguments, generator=torch.Generator().manual_seed(3)).images)

    with intervene.on(pipe, intervene.weight("red", 5.0), intervene.switch("a star", 1)):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert np.array_equal(seen[0], plain)
