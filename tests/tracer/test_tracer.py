"""Tracer around a user's own call: batches, lists, embeddings, callbacks, refusals, threads, nesting, removal."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler

from diffvis_widget.tracer import Tracer, denoiser_lock
from diffvis_widget.tracer import trace as make_trace
from tests import pipelines
from tests.tracer.test_transparency import snapshot

PROMPT = "a red circle above a blue square"


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def alone(pipe: Any, prompt: str, latents: torch.Tensor, **arguments: Any) -> Any:
    with Tracer(pipe) as tracer:
        pipe(prompt, latents=latents, num_inference_steps=2, **arguments)
    return tracer.trace


def test_each_image_of_a_batch_has_its_own_trace() -> None:
    pipe = pipelines.stable_diffusion()
    prompts = ["a red circle", "two blue squares and a green triangle"]
    start = torch.randn(4, 4, 16, 16, generator=seeded(0))
    with Tracer(pipe) as tracer:
        pipe(prompts, latents=start, num_inference_steps=2, num_images_per_prompt=2, negative_prompt=["fog", "rain"])
    assert len(tracer.traces) == 4
    for index, trace in enumerate(tracer.traces):
        prompt, negative = prompts[index // 2], ["fog", "rain"][index // 2]
        single = alone(pipe, prompt, start[index : index + 1], negative_prompt=negative)
        assert (trace.prompt, trace.negative_prompt) == (prompt, negative)
        assert trace.words == single.words
        assert trace.meta["image_index"] == index
        np.testing.assert_allclose(trace.heat_maps(), single.heat_maps(), atol=1e-3)
        np.testing.assert_allclose(trace.predictions, single.predictions, atol=1e-3)
        assert trace.guidance is not None
        np.testing.assert_allclose(trace.guidance, single.guidance, atol=1e-4)
        assert np.abs(trace.image.astype(int) - single.image.astype(int)).max() <= 1
    with pytest.raises(ValueError, match="4 traces"):
        _ = tracer.trace


def test_seeds_are_read_from_the_generators() -> None:
    pipe = pipelines.stable_diffusion()
    with Tracer(pipe) as tracer:
        pipe("x", num_inference_steps=1, num_images_per_prompt=2, generator=[seeded(3), seeded(4)])
        pipe("x", num_inference_steps=1, generator=seeded(5))
        pipe("x", num_inference_steps=1)
    assert [trace.meta["seed"] for trace in tracer.traces] == [3, 4, 5, None]


def test_a_tracer_used_for_several_calls_keeps_all() -> None:
    pipe = pipelines.stable_diffusion()
    with Tracer(pipe) as tracer:
        pipe("one", num_inference_steps=2)
        pipe.scheduler = DDIMScheduler(**pipelines.TRAIN_BETAS)  # exchanged inside the block
        pipe("two words", num_inference_steps=3, guidance_scale=1.0)
    with tracer:
        pipe("three", num_inference_steps=1)
    assert [(trace.prompt, len(trace.steps)) for trace in tracer.traces] == [("one", 2), ("two words", 3), ("three", 1)]
    assert not vars(pipe.scheduler).keys() & {"step", "set_timesteps"}


def test_embeddings_without_text_have_positions_as_words() -> None:
    pipe = pipelines.stable_diffusion()
    embeddings, negative = pipe.encode_prompt(PROMPT, "cpu", 1, True)
    with pytest.warns(UserWarning, match="without its text"), Tracer(pipe) as tracer:
        pipe(prompt_embeds=embeddings, negative_prompt_embeds=negative, num_inference_steps=2, generator=seeded(1))
    trace = tracer.trace
    assert [word.text for word in trace.words] == [str(position) for position in range(77)]
    with Tracer(pipe) as tracer:
        pipe(PROMPT, num_inference_steps=2, generator=seeded(1))
    circle = next(word for word in tracer.trace.words if word.text == "circle")
    np.testing.assert_allclose(trace.heat_map(list(circle.tokens)), tracer.trace.heat_map("circle"), atol=1e-4)


def test_embeddings_encoded_inside_the_block() -> None:
    pipe = pipelines.stable_diffusion()
    with Tracer(pipe) as tracer:
        embeddings, negative = pipe.encode_prompt([PROMPT, "fog"], "cpu", 1, True)
        pipe(prompt_embeds=embeddings, negative_prompt_embeds=negative, num_inference_steps=1)
    typed = [[word.text for word in trace.words if word.kind == "word"] for trace in tracer.traces]
    assert typed == [PROMPT.split(), ["fog"]]


def test_a_longer_text_than_the_tokenizer_gives() -> None:
    pipe = pipelines.stable_diffusion()
    embeddings, negative = pipe.encode_prompt(PROMPT, "cpu", 1, True)
    long = torch.cat([embeddings, embeddings], dim=1), torch.cat([negative, negative], dim=1)
    with pytest.warns(UserWarning, match="without its text"), Tracer(pipe) as tracer:
        pipe(prompt_embeds=long[0], negative_prompt_embeds=long[1], num_inference_steps=1)
    assert len(tracer.trace.words) == 154
    np.testing.assert_allclose(tracer.trace.heat_maps().sum(axis=0), 1, atol=1e-2)


@pytest.mark.parametrize("prompt", ["", "👍🏽 שלום <b>x</b>", " ".join(["word"] * 200)])
def test_unusual_prompts(prompt: str) -> None:
    with Tracer(pipelines.stable_diffusion()) as tracer:
        tracer.pipe(prompt, num_inference_steps=1)
    trace = tracer.trace
    maps = trace.heat_maps()
    cut = [word.kind == "truncated" for word in trace.words]
    np.testing.assert_allclose(maps[np.logical_not(cut)].sum(axis=0), 1, atol=2e-3)
    assert np.isnan(maps[cut]).all()


def test_guidance_switched_off_part_way() -> None:
    pipe = pipelines.stable_diffusion()

    def stop_guiding(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if step == 1:
            pipe._guidance_scale = 1.0
            return {"prompt_embeds": values["prompt_embeds"].chunk(2)[1]}
        return {}

    with Tracer(pipe) as tracer:
        pipe(
            PROMPT,
            num_inference_steps=4,
            callback_on_step_end=stop_guiding,
            callback_on_step_end_tensor_inputs=["prompt_embeds"],
        )
    trace = tracer.trace
    assert len(trace.steps) == 4
    assert [record.guidance is None for record in trace.records] == [False, False, True, True]
    assert trace.guidance is not None
    assert np.isnan(trace.guidance[2:]).all()


def test_on_step_sees_everything_so_far() -> None:
    pipe = pipelines.stable_diffusion()
    seen: list[int] = []

    def note(step: Any) -> None:
        trace = tracer.traces[0]
        assert len(trace.steps) == step.index + 1 == len(trace.predictions)
        assert trace.latents.shape[0] == step.index + 2
        assert trace.heat_maps(step=step.index).shape == (len(trace.words), 16, 16)
        assert trace.meta["planned_steps"] == 3
        seen.append(step.index)

    with Tracer(pipe, on_step=note) as tracer:
        pipe(PROMPT, num_inference_steps=3)
    assert seen == [0, 1, 2]


class StopNow(Exception):
    pass


def test_an_exception_from_on_step_ends_the_call_and_keeps_the_steps() -> None:
    pipe = pipelines.stable_diffusion()
    before = snapshot(pipe)

    def stop(step: Any) -> None:
        if step.index == 1:
            raise StopNow

    tracer = Tracer(pipe, on_step=stop)
    with pytest.raises(StopNow), tracer:
        pipe(PROMPT, num_inference_steps=5)
    assert [step.index for step in tracer.trace.steps] == [0, 1]
    assert tracer.trace.image.shape == (32, 32, 3)
    assert snapshot(pipe) == before


def test_warns_when_nothing_was_traced() -> None:
    pipe = pipelines.stable_diffusion()
    with pytest.warns(UserWarning, match="nothing was traced"), Tracer(pipe) as tracer:
        pass
    assert tracer.traces == []


@pytest.mark.parametrize(
    ("pipe", "error", "message"),
    [
        (None, TypeError, "pipe must be a diffusers pipeline, not NoneType"),
        ("stable-diffusion", TypeError, "not str"),
        (torch.nn.Linear(1, 1), TypeError, "not Linear"),
    ],
)
def test_what_cannot_be_traced(pipe: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Tracer(pipe)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({"keep": "all"}, ValueError), ({"on_step": 3}, TypeError), ({"compiled": "yes"}, ValueError)],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(arguments))):
        Tracer(pipelines.stable_diffusion(), **arguments)


def test_processors_that_hide_attention_are_refused_before_the_run() -> None:
    pipe = pipelines.stable_diffusion()
    from diffusers.models.attention_processor import XFormersAttnProcessor

    pipe.unet.set_attn_processor(XFormersAttnProcessor())
    with pytest.raises(ValueError, match="XFormersAttnProcessor"), Tracer(pipe):
        pass


def test_a_processor_of_the_users_own_that_hides_attention_ends_the_recording_not_the_call() -> None:
    class Hidden:
        def __call__(self, attn: Any, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            return hidden_states

    pipe = pipelines.stable_diffusion()
    pipe.unet.set_attn_processor(Hidden())
    plain = pipe(PROMPT, num_inference_steps=2, generator=seeded(1), output_type="np").images
    with pytest.warns(UserWarning, match="no attention was seen"), Tracer(pipe) as tracer:
        images = pipe(PROMPT, num_inference_steps=2, generator=seeded(1), output_type="np").images
    assert np.array_equal(images, plain)
    assert tracer.traces == []
    with pytest.raises(RuntimeError, match="no attention was seen"):
        _ = tracer.trace
    steps: list[int] = []
    with pytest.raises(RuntimeError, match="no attention was seen"):
        make_trace(pipe, PROMPT, num_inference_steps=2, callback_on_step_end=lambda *_: steps.append(1) or {})
    assert steps == []


def test_a_batch_in_another_order_is_not_traced_silently_wrong() -> None:
    pipe = pipelines.stable_diffusion()
    forward = pipe.unet.forward
    handle = pipe.unet.register_forward_pre_hook(
        lambda module, args, kwargs: (
            args,
            kwargs | {"encoder_hidden_states": kwargs["encoder_hidden_states"].flip(0)},
        ),
        with_kwargs=True,
    )
    with pytest.warns(UserWarning, match="orders its batch"), Tracer(pipe) as tracer:
        pipe(PROMPT, num_inference_steps=2)
    with pytest.raises(RuntimeError, match="orders its batch"):
        _ = tracer.trace
    assert tracer.traces == []
    handle.remove()
    assert pipe.unet.forward == forward


@pytest.mark.parametrize("how", ["module", "wrapper", "blocks"])
def test_compiled_denoisers(how: str) -> None:
    pipe = pipelines.stable_diffusion()
    plain = pipe(PROMPT, num_inference_steps=1, generator=seeded(1), output_type="np").images
    if how == "module":
        pipe.unet.compile(backend="eager")
    elif how == "wrapper":
        pipe.unet = torch.compile(pipe.unet, backend="eager")
    else:
        pipe.unet.mid_block.compile(backend="eager")
    with pytest.raises(ValueError, match='compiled="eager"'), Tracer(pipe):
        pass
    with pytest.warns(UserWarning, match="runs uncompiled"), Tracer(pipe, compiled="eager") as tracer:
        images = pipe(PROMPT, num_inference_steps=1, generator=seeded(1), output_type="np").images
    assert np.array_equal(images, plain)
    assert len(tracer.trace.layers) == 7


def test_nested_tracers_both_see_the_run() -> None:
    pipe = pipelines.stable_diffusion()
    before = snapshot(pipe)
    with Tracer(pipe) as outer, Tracer(pipe, keep="heads") as inner:
        pipe(PROMPT, num_inference_steps=2)
    np.testing.assert_allclose(outer.trace.heat_maps(), inner.trace.heat_maps(), atol=1e-3)
    assert np.array_equal(outer.trace.latents, inner.trace.latents)
    assert snapshot(pipe) == before


def test_tracers_may_end_in_any_order() -> None:
    pipe = pipelines.stable_diffusion()
    before = snapshot(pipe)
    first, second = Tracer(pipe), Tracer(pipe)
    first.__enter__()
    second.__enter__()
    pipe("one", num_inference_steps=1)
    first.__exit__(None, None, None)
    pipe("two", num_inference_steps=1)
    second.__exit__(None, None, None)
    assert [trace.prompt for trace in first.traces] == ["one"]
    assert [trace.prompt for trace in second.traces] == ["one", "two"]
    assert snapshot(pipe) == before


def test_a_tracer_cannot_be_entered_twice_at_once() -> None:
    pipe = pipelines.stable_diffusion()
    with Tracer(pipe) as tracer:
        with pytest.raises(RuntimeError, match="already in a with block"), tracer:
            pass
        pipe("x", num_inference_steps=1)
    assert len(tracer.traces) == 1


def test_a_pipeline_that_shares_the_denoiser_is_not_traced() -> None:
    pipe, other = pipelines.stable_diffusion(), pipelines.image_to_image()
    other.unet, other.scheduler = pipe.unet, pipe.scheduler
    image = torch.rand(1, 3, 32, 32, generator=seeded(0))
    with Tracer(pipe) as tracer:
        pipe("mine", num_inference_steps=2)
        other("theirs", image=image, num_inference_steps=4, strength=0.5)
    assert [(trace.prompt, len(trace.steps)) for trace in tracer.traces] == [("mine", 2)]
    assert denoiser_lock(pipe) is denoiser_lock(other)
    assert denoiser_lock(pipe) is not denoiser_lock(pipelines.stable_diffusion())


def test_another_threads_call_passes_straight_through() -> None:
    pipe = pipelines.stable_diffusion()
    expected = pipe("theirs", num_inference_steps=2, generator=seeded(1), output_type="np").images
    results: list[np.ndarray] = []

    def run() -> None:
        results.append(pipe("theirs", num_inference_steps=2, generator=seeded(1), output_type="np").images)

    with Tracer(pipe) as tracer:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        pipe("mine", num_inference_steps=1)
    assert [trace.prompt for trace in tracer.traces] == ["mine"]
    assert np.array_equal(results[0], expected)


def test_a_second_thread_waits_for_the_lock() -> None:
    pipe = pipelines.stable_diffusion()
    order: list[str] = []
    started = threading.Event()

    def run() -> None:
        started.set()
        with Tracer(pipe) as tracer:
            order.append("second")
            pipe("theirs", num_inference_steps=1)
        assert tracer.trace.prompt == "theirs"

    thread = threading.Thread(target=run)
    with Tracer(pipe):
        thread.start()
        assert started.wait(10)
        pipe("mine", num_inference_steps=2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_attention_outside_the_denoiser_is_never_touched() -> None:
    pipe = pipelines.stable_diffusion()
    original = F.scaled_dot_product_attention
    seen: list[bool] = []
    pipe.text_encoder.register_forward_hook(
        lambda *args: seen.append(F.scaled_dot_product_attention is original) or None
    )
    pipe.vae.decoder.register_forward_hook(
        lambda *args: seen.append(F.scaled_dot_product_attention is original) or None
    )
    with Tracer(pipe):
        pipe(PROMPT, num_inference_steps=1)
    assert seen
    assert all(seen)
