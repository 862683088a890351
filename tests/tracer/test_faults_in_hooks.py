"""A fault at every call of every hook that the tracer puts on: the call goes on, and everything is as before.

A hook is a function that a module calls before or after its work, one that answers for a watched function (attention,
tokenizers, the pipeline's own methods, scheduler, VAE), and what a user gives: on_step and a view. Only interrupts, and
errors of on_step, end the call.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedTokenizerBase

from diffvis_widget.tracer import Tracer, attention_calls, denoiser_lock, hooks, pipeline_calls
from diffvis_widget.tracer.families import token_streams as streams
from diffvis_widget.tracer.fault_guard import FaultGuard
from diffvis_widget.traces import Step, Trace
from tests import pipelines
from tests.pipelines_dit import FAMILIES


class Fault(Exception):
    pass


class Faults:
    """Counts the calls of hooks, by name, and raises before or after the work of one of them."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.at = -1
        self.error: type[BaseException] = Fault
        self.after = False

    def plan(self, at: int, error: type[BaseException], after: bool) -> None:
        self.names, self.at, self.error, self.after = [], at, error, after

    def around(self, hook: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.names.append(name)
            mine = len(self.names) - 1 == self.at
            if mine and not self.after:
                raise self.error
            result = hook(*args, **kwargs)
            if mine:
                raise self.error
            return result

        return call


class Viewer:
    """A view: what it is told goes through the faults."""

    def __init__(self, faults: Faults) -> None:
        self._step = faults.around(lambda trace, step: None, "view.step")
        self._end = faults.around(lambda error: None, "view.end")

    def check_model(self, pipe: Any) -> None:
        pass

    def follow(self, pipe: Any) -> Viewer:
        return self

    def step(self, trace: Trace, step: Step) -> None:
        self._step(trace, step)

    def end(self, error: BaseException | None) -> None:
        self._end(error)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    faults = Faults()

    def watch(owner: Any, name: str, watcher: Any, modifies: bool = False, guard: FaultGuard | None = None) -> Any:
        return hooks.watch(owner, name, faults.around(watcher, name), modifies, guard)

    for module in (attention_calls, streams, pipeline_calls):
        monkeypatch.setattr(module, "watch", watch)
    guarded = FaultGuard.hook
    monkeypatch.setattr(FaultGuard, "hook", lambda self, hook: guarded(self, faults.around(hook, "module hook")))
    return faults


def snapshot(pipe: Any) -> dict[str, Any]:
    """Everything that a tracer could have left behind, or used up."""
    parts = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    modules = {
        f"{part}.{name}": (
            dict(module._forward_hooks),
            dict(module._forward_pre_hooks),
            sorted(key for key in vars(module) if not key.startswith("_")),
            id(getattr(module, "processor", None)),
        )
        for part, whole in parts.items()
        for name, module in whole.named_modules()
    }
    return {
        "modules": modules,
        "pipe": {key: id(value) for key, value in vars(pipe).items() if not key.startswith("_")},
        "scheduler": sorted(key for key, value in vars(pipe.scheduler).items() if callable(value)),
        "functions": (id(F.scaled_dot_product_attention), id(PreTrainedTokenizerBase.__call__)),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
        "random": (torch.get_rng_state().tolist(), random.getstate()),
        "locked": getattr(denoiser_lock(pipe), "_is_owned")(),  # noqa: B009
    }


def unet() -> tuple[Any, dict[str, Any]]:
    pipe = pipelines.stable_diffusion(
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        block_out_channels=(16,),
        attention_head_dim=2,
    )
    # one site by each way of reading: sliced attention shadows a method, the others are seen by torch's own function
    first: Any = pipe.unet.get_submodule("down_blocks.0.attentions.0.transformer_blocks.0.attn2")
    first.set_attention_slice(1)
    return pipe, {"height": 16, "width": 16, "num_inference_steps": 2}


def joint() -> tuple[Any, dict[str, Any]]:
    case = FAMILIES["flux-two-calls"]
    return case.build(), {**case.arguments, "num_inference_steps": 1, "height": 16, "width": 16}


EVERYWHERE = {
    *("module hook", "scaled_dot_product_attention", "__call__"),
    *("encode_prompt", "prepare_latents", "set_timesteps", "step", "decode", "on_step", "view.step", "view.end"),
}


@pytest.mark.parametrize("build", [unet, joint])
@pytest.mark.filterwarnings("default::UserWarning")
def test_everything_is_as_before(build: Any, faults: Faults) -> None:
    pipe, arguments = build()

    def run() -> Any:
        generator = torch.Generator().manual_seed(0)
        return pipe("a red circle", **arguments, output_type="np", generator=generator).images

    def traced() -> tuple[Any, list[Trace]]:
        on_step = faults.around(lambda step: None, "on_step")
        with Tracer(pipe, on_step=on_step, view=Viewer(faults), keep="heads") as tracer:
            images = run()
        return images, tracer.traces

    plain = run()
    before = snapshot(pipe)
    images, traces = traced()
    assert np.array_equal(images, plain)
    assert set(faults.names) == EVERYWHERE | ({"get_attention_scores"} if build is unet else set())
    names = faults.names
    ways = list(itertools.product((Fault, KeyboardInterrupt), (False, True)))
    done: Counter[str] = Counter()
    for at, name in enumerate(names):
        # every call once, and the calls of one name in every way: those of a name that is seldom called in all of them
        chosen = ways if names.count(name) < len(ways) else [ways[done[name] % len(ways)]]
        done[name] += 1
        for error, after in chosen:
            faults.plan(at, error, after)
            place = f"{error.__name__} {'after' if after else 'before'} call {at}, {name}"
            if error is KeyboardInterrupt or name == "on_step":
                with pytest.raises(error):
                    traced()
            else:
                with pytest.warns(UserWarning, match="Fault") as caught:
                    images, _ = traced()
                assert len(caught) == 1, place
                assert np.array_equal(images, plain), place
            assert snapshot(pipe) == before, place
    faults.plan(-1, Fault, False)
    again, traces_again = traced()
    assert np.array_equal(run(), plain)
    assert np.array_equal(again, plain)
    np.testing.assert_array_equal(traces_again[0].heat_maps(), traces[0].heat_maps())
