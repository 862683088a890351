"""Images of steps are made beside the denoiser of the built-in model, and between the steps of others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import diffvis_widget as dv
from diffvis_widget.tracer import denoiser_lock
from diffvis_widget.tracer.locks import decoder_lock
from diffvis_widget.widget.session import camera
from diffvis_widget.widget.session.camera import LAG
from diffvis_widget.wire import images
from diffvis_widget.wire.packed_run import Message, pack, unpack
from tests.widget.conftest import SECONDS, seen

Make = Callable[..., Any]
PROMPT = "a red circle"


@pytest.fixture(scope="module")
def scenes() -> Any:
    return dv.load()


@contextmanager
def before_decode(pipe: Any, action: Callable[[], object]) -> Iterator[None]:
    """Call a function before each decode in a thread of its own."""

    def hook(*_: Any) -> None:
        if threading.current_thread().name.startswith("diffvis-decode"):
            action()

    handle = pipe.vae.decoder.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def predictions(widget: Any) -> list[Message]:
    """The predicted images that replaced previews."""
    return [message for message in widget.wire.of("frame") if "view" not in message.content]


def test_every_image_of_the_built_in_model_is_exact_while_it_runs(make: Make, scenes: Any) -> None:
    widget = make(scenes, prompt=PROMPT, seed=3, steps=6)
    image = widget.trace.image
    assert [message.content["index"] for message in widget.wire.of("step")] == list(range(6))
    assert all(message.content["exact"] for message in widget.wire.of("step"))
    assert predictions(widget) == []
    frames = widget.trace.frames("prediction")
    alone = dv.trace(scenes, PROMPT, seed=3, num_inference_steps=6)
    assert np.abs(frames.astype(int) - alone.frames("prediction")).max() <= 1
    plain = scenes(PROMPT, num_inference_steps=6, generator=torch.Generator().manual_seed(3)).images[0]
    assert np.array_equal(image, np.asarray(plain))
    assert "decode" not in vars(scenes.vae), "the hook on the VAE is gone"


def test_the_denoiser_goes_on_while_an_image_is_decoded(make: Make, scenes: Any) -> None:
    decode, ahead = threading.Event(), threading.Event()
    evaluations: list[int] = []

    def count(*_: Any) -> None:
        evaluations.append(1)
        if len(evaluations) == LAG + 2:
            ahead.set()

    hook = scenes.unet.register_forward_pre_hook(count)
    try:
        with before_decode(scenes, lambda: decode.wait(SECONDS)):
            widget = make(scenes, prompt=PROMPT, steps=8)
            assert ahead.wait(SECONDS)
            assert widget.wire.of("step") == []
            assert len(evaluations) == LAG + 2, "it waits for images that are too far behind"
            decode.set()
            assert len(widget.trace.steps) == 8
    finally:
        hook.remove()
    assert len(widget.wire.of("step")) == 8


def test_the_noisy_images_are_decoded_in_idle_time(make: Make, scenes: Any) -> None:
    widget = make(scenes, prompt=PROMPT, seed=3, steps=4)
    trace = widget.trace
    live = widget.wire.of("step")
    assert [message.content["previews"] for message in live] == [["latents"]] * 4

    def saved(snapshot: bytes) -> list[Message]:
        return [message for message in unpack(snapshot or pack([])) if message.content["type"] == "step"]

    def is_exact(snapshot: bytes) -> bool:
        return bool(saved(snapshot)) and not any("previews" in message.content for message in saved(snapshot))

    assert seen(widget, "_snapshot", is_exact).wait(SECONDS)
    expected = trace.decode(trace.visible_latents)
    for index, message in enumerate(saved(widget._snapshot)):
        image = np.asarray(images.read(message.buffers[message.content["views"].index("latents")]))
        assert np.abs(image.astype(int) - expected[index]).max() <= 1
    frames = [message for message in widget.wire.of("frame") if message.content.get("view") == "latents"]
    assert {message.content["index"] for message in frames} == set(range(4))


def test_noisy_images_wait_while_another_run_uses_the_model(make: Make, scenes: Any) -> None:
    threads: list[str] = []
    handle = scenes.vae.decoder.register_forward_pre_hook(lambda *_: threads.append(threading.current_thread().name))
    widget = make(scenes, prompt=PROMPT, steps=4)
    try:
        assert widget.wait(SECONDS)
        run = widget._session.history.runs[-1]
        with denoiser_lock(scenes):  # as a run of another widget has it
            ask = threading.Thread(target=widget._session.decoder.decode_next, args=(run, scenes), name="asks")
            ask.start()
            ask.join(SECONDS)
            assert not ask.is_alive()
    finally:
        handle.remove()
    assert threads
    assert "asks" not in threads
    assert seen(widget, "_snapshot", lambda _: not run.inexact_latents).wait(SECONDS)


def test_previews_of_other_models_are_smooth_and_say_what_they_are(
    make: Make, shared_pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera, "DECODE_SECONDS", 0.0)
    monkeypatch.setattr(camera, "DECODE_SHARE", 0.0)
    widget = make(shared_pipe, prompt=PROMPT, steps=3)
    assert widget.wait(SECONDS)
    first, second, *_ = widget.wire.of("step")
    assert first.content["previews"] == ["latents"]
    assert second.content["previews"] == ["prediction", "latents"]
    image = np.asarray(images.read(second.buffers[0])).astype(int)
    within, between = (np.abs(np.diff(image, axis=0))[start::2].mean() for start in (0, 1))
    assert within > between / 4, "squares of one latent pixel would have no difference inside"
    steps = [message.content for message in unpack(widget._snapshot) if message.content["type"] == "step"]
    assert [step["previews"] for step in steps] == [["latents"]] * 3, "decoded before the run was called done"


def test_an_image_that_cannot_be_decoded_ends_the_run(make: Make, scenes: Any) -> None:
    decodes: list[int] = []

    def fail() -> None:
        decodes.append(1)
        if len(decodes) == 2:
            raise ArithmeticError("no more")

    with before_decode(scenes, fail):
        widget = make(scenes, prompt=PROMPT, steps=8)
        assert widget.wait(SECONDS)
    assert widget.status == "failed"
    assert "ArithmeticError: no more" in widget.error
    widget.run()
    assert len(widget.trace.steps) == 8


def test_stop_does_not_wait_for_exact_images_and_they_follow(make: Make, scenes: Any) -> None:
    held, decode = threading.Event(), threading.Event()

    def wait() -> None:
        held.set()
        assert decode.wait(SECONDS)

    with before_decode(scenes, wait):
        widget = make(scenes, prompt=PROMPT, steps=30)
        assert held.wait(SECONDS)
        widget.stop()
        decode.set()
        assert widget.wait(SECONDS)
    assert widget.status == "stopped"
    steps = widget.wire.of("step")
    assert len(steps) == len(widget.trace.steps) < 30
    previews = {message.content["index"] for message in steps if not message.content["exact"]}
    assert 0 not in previews
    assert seen(widget, "_snapshot", lambda _: not widget._session.history.runs[-1].inexact).wait(SECONDS)
    assert {message.content["index"] for message in predictions(widget)} == previews


def test_only_the_built_in_model_decodes_beside_its_denoiser(scenes: Any, shared_pipe: StableDiffusionPipeline) -> None:
    assert decoder_lock(shared_pipe) is denoiser_lock(shared_pipe)
    assert decoder_lock(scenes) is not denoiser_lock(scenes)
    assert decoder_lock(scenes) is decoder_lock(scenes)
    scenes.unet._hf_hook = object()  # as accelerate marks a part that it moves
    try:
        assert decoder_lock(scenes) is denoiser_lock(scenes)
    finally:
        del scenes.unet._hf_hook
