"""Whatever ends a run, and wherever: model, scheduler and torch are as before, and the finished steps are kept."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.hooks import unwatched, watch
from diffvis_widget.tracer.pipeline_calls import PipelineCalls
from tests import pipelines
from tests.tracer.test_transparency import snapshot

PROMPT = "a red circle above a blue square"


class Fault(Exception):
    pass


def fail_at(call: int, error: type[BaseException]) -> Callable[..., None]:
    count = 0

    def hook(*args: Any) -> None:
        nonlocal count
        count += 1
        if count == call:
            raise error

    return hook


MID = "mid_block.attentions.0.transformer_blocks.0"
PLACES: dict[str, tuple[Callable[[Any], Any], int, int]] = {
    # where: (module that fails, at which of its calls, steps that were finished before)
    "encoding the prompt": (lambda pipe: pipe.text_encoder, 1, 0),
    "before any attention": (lambda pipe: pipe.unet.conv_in, 1, 0),
    "inside word attention": (lambda pipe: pipe.unet.get_submodule(f"{MID}.attn2.to_k"), 3, 2),
    "inside self-attention": (lambda pipe: pipe.unet.get_submodule(f"{MID}.attn1.to_q"), 3, 2),
    "after all attention": (lambda pipe: pipe.unet.conv_out, 2, 1),
    "decoding the image": (lambda pipe: pipe.vae.decoder, 1, 4),
}


@pytest.mark.parametrize("error", [Fault, KeyboardInterrupt])
@pytest.mark.parametrize("place", PLACES)
def test_faults_in_the_models(place: str, error: type[BaseException]) -> None:
    pipe = pipelines.stable_diffusion()
    part, call, finished = PLACES[place]
    plain = snapshot(pipe)
    handle = part(pipe).register_forward_pre_hook(fail_at(call, error))
    before = snapshot(pipe)
    tracer = Tracer(pipe)
    with pytest.raises(error), tracer:
        pipe(PROMPT, num_inference_steps=4)
    assert snapshot(pipe) == before
    assert [len(trace.steps) for trace in tracer.traces] == ([finished] if finished else [])
    handle.remove()
    assert snapshot(pipe) == plain


@pytest.mark.parametrize("error", [Fault, KeyboardInterrupt])
def test_faults_in_the_scheduler(error: type[BaseException]) -> None:
    pipe = pipelines.stable_diffusion()
    original, failing = pipe.scheduler._get_variance, fail_at(3, error)
    before = snapshot(pipe)

    def variance(*args: Any) -> Any:
        failing()
        return original(*args)

    pipe.scheduler._get_variance = variance
    tracer = Tracer(pipe)
    with pytest.raises(error), tracer:
        pipe(PROMPT, num_inference_steps=4)
    assert snapshot(pipe) == before
    assert len(tracer.trace.steps) == 2


@pytest.mark.parametrize("error", [Fault, KeyboardInterrupt])
def test_the_block_goes_on_after_a_caught_fault(error: type[BaseException]) -> None:
    pipe = pipelines.stable_diffusion()
    before = snapshot(pipe)
    with Tracer(pipe) as tracer:
        handle = pipe.unet.get_submodule(f"{MID}.attn2.to_k").register_forward_pre_hook(fail_at(2, error))
        with pytest.raises(error):
            pipe("cut short", num_inference_steps=4)
        handle.remove()
        pipe.text_encoder(torch.zeros(2, 77, dtype=torch.long))  # as long as the prompt's keys: not read
        pipe("whole", num_inference_steps=2)
    assert [(trace.prompt, len(trace.steps)) for trace in tracer.traces] == [("cut short", 1), ("whole", 2)]
    assert len(tracer.traces[1].layers) == 7
    assert snapshot(pipe) == before


@pytest.mark.parametrize("name", ["_encode_prompt", "_prepare_latents", "_set_timesteps", "_evaluation_begins"])
@pytest.mark.parametrize("error", [Fault, KeyboardInterrupt])
def test_faults_in_our_own_hooks(name: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipelines.stable_diffusion()
    before = snapshot(pipe)
    monkeypatch.setattr(PipelineCalls, name, lambda self, *args, **kwargs: fail_at(1, error)())
    ends = pytest.raises(error) if error is KeyboardInterrupt else pytest.warns(UserWarning, match="Fault")
    with ends, Tracer(pipe):
        pipe(PROMPT, num_inference_steps=2)
    assert snapshot(pipe) == before


def test_a_refusal_on_entering_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipelines.stable_diffusion()
    before = snapshot(pipe)

    def refuse(self: Any, pipe: Any) -> None:
        raise Fault

    tracer = Tracer(pipe)
    with monkeypatch.context() as patch:
        patch.setattr(PipelineCalls, "_select", refuse)
        with pytest.raises(Fault), tracer:
            pass
    assert snapshot(pipe) == before
    with tracer:
        pipe(PROMPT, num_inference_steps=1)
    assert len(tracer.traces) == 1


def test_a_users_own_replacement_of_the_attention_function_survives() -> None:
    pipe = pipelines.stable_diffusion()
    original = F.scaled_dot_product_attention
    calls: list[int] = []

    def mine(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(1)
        return original(*args, **kwargs)

    F.scaled_dot_product_attention = mine
    try:
        with Tracer(pipe) as tracer:
            pipe(PROMPT, num_inference_steps=1)
        assert F.scaled_dot_product_attention is mine
    finally:
        F.scaled_dot_product_attention = original
    assert calls
    assert len(tracer.trace.layers) == 7


class Owner:
    def __init__(self) -> None:
        self.value = 1

    def add(self, amount: int = 2) -> int:
        return self.value + amount


def doubled(original: Any, *args: Any) -> int:
    return 2 * original(*args)


def negated(original: Any, *args: Any) -> int:
    return -original(*args)


def test_watchers_come_and_go_in_any_order() -> None:
    owner = Owner()
    first = watch(owner, "add", doubled)
    second = watch(owner, "add", negated)
    assert owner.add(4) == -10
    assert unwatched(owner, "add")(4) == 5
    assert inspect.signature(owner.add) == inspect.signature(Owner().add)
    first()
    first()  # twice does no harm
    assert owner.add(4) == -5
    second()
    assert vars(owner) == {"value": 1}


def test_a_copy_of_a_watched_object_acts_on_itself() -> None:
    owner = Owner()
    remove = watch(owner, "add", doubled)
    clone = copy.deepcopy(owner)
    clone.value = 10
    assert clone.add() == 12
    assert owner.add() == 6
    remove()
    assert clone.add() == 12


def test_a_replacement_made_meanwhile_is_kept() -> None:
    owner: Any = Owner()
    remove = watch(owner, "add", doubled)
    watched = owner.add
    owner.add = lambda: watched() + 1
    assert owner.add() == 7
    remove()
    assert owner.add() == 4
