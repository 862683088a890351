"""The built-in model computes on one processor thread in the widget's threads, its pipeline's own decode excepted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

import diffvis_widget as dv
from diffvis_widget.processor_threads import single_threaded
from diffvis_widget.widget.session.threads import single_threaded_denoiser

USUAL = torch.get_num_threads()
several = pytest.mark.skipif(USUAL < 2, reason="this machine computes on one thread anyway")


def in_a_thread(job: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(job()))
    thread.start()
    thread.join()
    return results[0]


def threads_of(pipe: Any) -> dict[str, set[int]]:
    """How many threads torch computes with while the parts of a pipeline work, and elsewhere meanwhile."""
    thread_counts: dict[str, set[int]] = {"unet": set(), "vae": set(), "elsewhere": set(), "afterwards": set()}

    def unet(*_: Any) -> None:
        thread_counts["unet"].add(torch.get_num_threads())
        thread_counts["elsewhere"].add(in_a_thread(torch.get_num_threads))

    hooks = [
        pipe.unet.conv_in.register_forward_hook(unet),
        pipe.vae.decoder.register_forward_hook(lambda *_: thread_counts["vae"].add(torch.get_num_threads())),
    ]
    try:
        with single_threaded_denoiser(pipe):
            pipe("a red circle", num_inference_steps=2)
        thread_counts["afterwards"].add(torch.get_num_threads())
    finally:
        for hook in hooks:
            hook.remove()
    return thread_counts


@several
def test_only_the_built_in_denoiser_computes_on_one_thread() -> None:
    pipe: Any = dv.load()
    counts = in_a_thread(lambda: threads_of(pipe))
    assert counts == {"unet": {1}, "vae": {USUAL}, "elsewhere": {USUAL}, "afterwards": {USUAL}}
    assert not pipe.unet._forward_hooks
    assert not pipe.unet._forward_pre_hooks


@several
def test_a_call_of_somebody_else_is_left_alone() -> None:
    pipe: Any = dv.load()
    thread_counts: list[int] = []
    hook = pipe.unet.conv_in.register_forward_hook(lambda *_: thread_counts.append(torch.get_num_threads()))
    with single_threaded_denoiser(pipe):
        in_a_thread(lambda: pipe("a red circle", num_inference_steps=1))
    hook.remove()
    assert set(thread_counts) == {USUAL}


def test_a_denoiser_that_fails_leaves_nothing_behind() -> None:
    pipe: Any = dv.load()

    def fail(*_: Any) -> None:
        raise RuntimeError("no more")

    hook = pipe.unet.conv_in.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="no more"), single_threaded_denoiser(pipe):
        pipe("a red circle", num_inference_steps=1)
    hook.remove()
    assert torch.get_num_threads() == USUAL
    assert not pipe.unet._forward_hooks
    assert not pipe.unet._forward_pre_hooks


def test_a_number_that_the_process_has_chosen_does_not_come_back_in_a_new_thread() -> None:
    torch.set_num_threads(USUAL)
    thread_counts: list[int] = []

    def compute() -> None:
        with single_threaded():
            thread_counts.append(torch.get_num_threads())
        thread_counts.append(torch.get_num_threads())

    in_a_thread(compute)
    assert thread_counts == [1, USUAL]


def test_other_models_are_left_alone(shared_pipe: StableDiffusionPipeline) -> None:
    assert set().union(*threads_of(shared_pipe).values()) == {USUAL}


@pytest.mark.parametrize("is_chosen", [False, True])
def test_the_image_is_that_of_all_threads(is_chosen: bool) -> None:
    if is_chosen:
        torch.set_num_threads(USUAL)
    pipe: Any = dv.load()

    def image() -> torch.Tensor:
        call = {"num_inference_steps": 3, "generator": torch.Generator().manual_seed(5), "output_type": "pt"}
        return pipe("a red circle in the snow", **call).images

    def single_threaded() -> torch.Tensor:
        with single_threaded_denoiser(pipe):
            return image()

    assert torch.equal(in_a_thread(single_threaded), image())


@several
def test_live_images_of_the_built_in_model_are_decoded_on_one_thread(make: Callable[..., Any]) -> None:
    pipe: Any = dv.load()
    thread_counts: dict[bool, set[int]] = {True: set(), False: set()}

    def count(*_: Any) -> None:
        is_live = threading.current_thread().name.startswith("diffvis-decode")
        thread_counts[is_live].add(torch.get_num_threads())

    pipe.vae.decoder.register_forward_hook(count)
    widget = make(pipe, prompt="a red circle", steps=2)
    assert len(widget.trace.steps) == 2
    assert thread_counts == {True: {1}, False: {USUAL}}
