"""DiffVis on a real pipeline: runs, the latest wins, stop, failures, and the messages to the page."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

import diffvis_widget as dv
from diffvis_widget.widget import jupyter
from diffvis_widget.widget.session import camera, decoding
from diffvis_widget.widget.session.run import RunFailed
from diffvis_widget.widget.widget import DiffVis
from diffvis_widget.wire import images
from diffvis_widget.wire.packed_run import dequantise, unpack
from tests import pipelines
from tests.widget.conftest import PROMPT, SECONDS, Gate, page, seen

Make = Callable[..., Any]


def test_a_run_sends_everything_in_order(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, seed=7, steps=6)
    assert widget.wait(SECONDS)
    assert (widget.status, widget.error, widget.progress) == ("done", "", 1.0)
    assert widget.wire.types() == ["run", *["step"] * 6, "end"]
    begun = widget.wire.of("run")[0].content
    assert [word["text"] for word in begun["words"] if word["kind"] == "word"] == PROMPT.split()
    assert (begun["steps"], begun["seed"], begun["meter"]) == (6, 7, None)
    assert begun["pipeline"] == "StableDiffusionPipeline"
    assert begun["scheduler"] == "DDIMScheduler"
    assert begun["image"] == [32, 32]
    ended = widget.wire.of("end")[0]
    assert (ended.content["state"], ended.content["steps"], ended.content["error"]) == ("done", 6, None)
    assert np.array_equal(np.asarray(images.read(ended.buffers[0])), widget.trace.image)


def test_steps_carry_the_trace(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, seed=7, steps=4)
    trace = widget.trace
    # as it is saved: a step that went out with a preview has its exact image here
    saved = unpack(widget._snapshot)
    for index, message in enumerate(message for message in saved if message.content["type"] == "step"):
        content = message.content
        assert content["index"] == index
        assert content["timestep"] == trace.timesteps[index]
        maps = dequantise(message.buffers[len(content["views"])], content["maps"]["shape"], content["maps"]["scales"])
        expected = trace.heat_maps(step=index)
        assert np.abs(maps - expected).max() <= (expected.max() - expected.min()) / 510 + 1e-6
        views = dict(zip(content["views"], message.buffers, strict=False))
        assert list(views) == ["prediction", "latents", "guidance"]
        grey = np.asarray(images.read(views["guidance"]))[..., 0] / 255
        lo, hi = content["guidance_range"]
        assert np.abs(lo + grey * (hi - lo) - trace.guidance[index]).max() <= (hi - lo) / 500
        assert content["exact"]
        assert np.array_equal(np.asarray(images.read(views["prediction"])), trace.frames("prediction")[index])


def test_the_widget_runs_what_trace_runs_and_leaves_the_pipeline_alone(
    make: Make, shared_pipe: StableDiffusionPipeline
) -> None:
    before = torch.get_rng_state()
    scheduler, progress = shared_pipe.scheduler, getattr(shared_pipe, "_progress_bar_config", None)
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in shared_pipe.unet.modules())
    widget = make(shared_pipe, prompt=PROMPT, seed=3, steps=4, guidance_scale=5.0, negative_prompt="dark")
    shown = widget.trace
    alone = dv.trace(shared_pipe, PROMPT, seed=3, num_inference_steps=4, guidance_scale=5.0, negative_prompt="dark")
    plain: Any = shared_pipe(
        PROMPT,
        negative_prompt="dark",
        num_inference_steps=4,
        guidance_scale=5.0,
        generator=torch.Generator("cpu").manual_seed(3),
    )
    assert np.array_equal(shown.image, alone.image)
    assert np.array_equal(shown.image, np.asarray(plain.images[0]))
    assert np.array_equal(shown.latents, alone.latents)
    assert torch.equal(before, torch.get_rng_state())
    assert shared_pipe.scheduler is scheduler
    assert getattr(shared_pipe, "_progress_bar_config", None) == progress
    assert hooks == sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in shared_pipe.unet.modules()
    )


def test_pipeline_arguments_go_to_the_call(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=2, height=48, width=32)
    assert widget.trace.image.shape == (48, 32, 3)
    assert widget.wire.of("run")[0].content["image"] == [48, 32]


def test_an_image_to_image_pipeline_runs_and_plans_only_the_steps_it_makes(make: Make) -> None:
    image = Image.fromarray(np.full((32, 32, 3), 90, dtype=np.uint8))
    widget = make(pipelines.image_to_image(), prompt=PROMPT, steps=6, image=image, strength=0.5)
    assert len(widget.trace.steps) == 3
    assert widget.wire.of("run")[0].content["steps"] == 3
    assert widget.progress == 1.0


def test_a_schedule_reaches_the_scheduler(make: Make) -> None:
    from diffusers import EulerDiscreteScheduler

    pipe = pipelines.stable_diffusion()
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    widget = make(pipe, prompt=PROMPT, steps=30, schedule="early", schedule_strength=60)
    assert widget.trace.timesteps.astype(int).tolist() == dv.timesteps("early", 30, 60)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        " ".join(f"word{index}" for index in range(200)),
        "\U0001f9d1‍\U0001f680 עיגול أحمر \u202e up",
        "<img src=x onerror=alert(1)> & <b>",
        "a\x00b \ud83d",
    ],
    ids=["empty", "long", "emoji and right to left", "markup", "control and half a surrogate"],
)
def test_any_prompt_is_a_run(make: Make, shared_pipe: StableDiffusionPipeline, prompt: str) -> None:
    widget = make(shared_pipe, prompt=prompt, steps=2)
    assert widget.wait(SECONDS)
    assert (widget.status, widget.error) == ("done", "")
    packed = unpack(widget._snapshot)
    assert packed[0].content["prompt"] == widget.prompt
    words = packed[0].content["words"]
    cut = [word for word in words if word["kind"] == "truncated"]
    assert bool(cut) == (len(prompt) > 1000)
    for message in packed[1:3]:
        scales = message.content["maps"]["scales"]
        assert [scale is None for scale in scales] == [word["kind"] == "truncated" for word in words]


def test_the_latest_run_wins(make: Make, pipe: StableDiffusionPipeline, gate: Gate) -> None:
    widget = make(pipe, prompt="first", steps=12)
    gate.until_held()
    widget.prompt = "second"
    widget.run()
    widget.prompt = "third"
    widget.run()
    assert widget.status == "stopping"
    gate.let_all()
    assert widget.trace.prompt == "third"
    assert widget.status == "done"
    assert [message.content["prompt"] for message in widget.wire.of("run")] == ["first", "third"]
    ends = [(message.content["state"], message.content["steps"]) for message in widget.wire.of("end")]
    assert ends == [("stopped", 1), ("done", 12)]


def test_stop_ends_the_run_at_the_next_step_and_keeps_what_is_finished(
    make: Make, pipe: StableDiffusionPipeline, gate: Gate
) -> None:
    widget = make(pipe, prompt=PROMPT, steps=8)
    gate.until_held()
    gate.let(3)
    widget.stop()
    assert widget.status == "stopping"
    gate.let_all()
    assert widget.wait(SECONDS)
    assert widget.status == "stopped"
    assert len(widget.trace.steps) == 4
    assert gate.calls == 4
    assert [message.content["state"] for message in widget.wire.of("end")] == ["stopped"]
    assert len([m for m in unpack(widget._snapshot) if m.content["type"] == "step"]) == 4
    widget.run()
    assert len(widget.trace.steps) == 8


def test_stop_at_once_and_again(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=15)
    widget.stop()
    widget.stop()
    assert widget.wait(SECONDS)
    assert widget.status == "stopped"
    assert len(widget.wire.of("step")) < 15
    widget.run()
    assert len(widget.trace.steps) == 15


def test_python_asks_for_the_tour_and_the_page_takes_it(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe)
    widget.tour()
    widget.tour()
    assert widget._tour == 1
    widget.set_state({"_tour": 0})
    assert widget._tour == 0


def test_stop_without_a_run_does_nothing(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe)
    widget.stop()
    assert widget.wait(1)
    assert widget.status == "idle"
    with pytest.raises(RuntimeError, match="no run has a finished step yet"):
        _ = widget.trace


def test_a_second_widget_on_the_same_model_queues_and_says_so(
    make: Make, pipe: StableDiffusionPipeline, gate: Gate
) -> None:
    first = make(pipe, prompt=PROMPT, steps=3)
    gate.until_held()
    second = make(pipe, prompt="a blue circle", steps=3)
    assert seen(second, "_notice", lambda text: "another run is using this model" in text).wait(SECONDS)
    assert second.status == "queued"
    assert second.progress == 0
    gate.let_all()
    assert first.wait(SECONDS)
    assert second.wait(SECONDS)
    assert (first.status, second.status, second._notice) == ("done", "done", "")
    assert second.trace.prompt == "a blue circle"


def test_a_queued_run_can_be_stopped(make: Make, pipe: StableDiffusionPipeline, gate: Gate) -> None:
    first = make(pipe, prompt=PROMPT, steps=3)
    gate.until_held()
    second = make(pipe, prompt=PROMPT, steps=3)
    assert seen(second, "_notice", lambda text: "another run" in text).wait(SECONDS)
    second.stop()
    assert second.wait(SECONDS)
    assert second.status == "stopped"
    assert first.status == "running"
    with pytest.raises(RuntimeError, match="stopped before its first step"):
        _ = second.trace


def test_closing_a_widget_stops_its_run_and_frees_the_model(
    make: Make, pipe: StableDiffusionPipeline, gate: Gate
) -> None:
    first = make(pipe, prompt=PROMPT, steps=15)
    gate.until_held()
    second = make(pipe, prompt=PROMPT, steps=2)
    first.close()
    gate.let_all()
    assert second.wait(SECONDS)
    assert second.status == "done"
    assert gate.calls <= 4
    with pytest.raises(RuntimeError, match="closed"):
        first.run()


def test_a_widget_that_is_closed_is_collected(shared_pipe: StableDiffusionPipeline) -> None:
    widget = DiffVis(shared_pipe, prompt=PROMPT, steps=2)
    assert widget.wait(SECONDS)
    session, gone = widget._session, weakref.ref(widget)
    widget.close()
    session.join(SECONDS)
    del widget
    gc.collect()
    assert gone() is None
    assert not session.alive


def test_a_widget_that_ipywidgets_let_go_works_until_nobody_has_it(shared_pipe: StableDiffusionPipeline) -> None:
    widget = DiffVis(shared_pipe, prompt=PROMPT, steps=2)
    assert widget.wait(SECONDS)
    jupyter.let_go(widget)
    request = {"type": "run", "prompt": "a star"}
    message = {"content": {"data": {"method": "custom", "content": request}}, "buffers": []}
    assert widget.comm is not None
    widget.comm.handle_msg(message)
    assert widget.trace.prompt == "a star"
    session, gone = widget._session, weakref.ref(widget)
    del widget
    gc.collect()
    assert gone() is None
    session.join(SECONDS)
    assert not session.alive


def test_an_error_at_step_5_is_shown_and_the_finished_steps_are_kept(make: Make, pipe: StableDiffusionPipeline) -> None:
    calls = 0

    def fail(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise ValueError("the <b>fan</b> fell off")

    handle = pipe.unet.register_forward_pre_hook(fail)
    widget = make(pipe, prompt=PROMPT, steps=10)
    assert widget.wait(SECONDS)
    assert widget.status == "failed"
    assert widget.error.splitlines() == [
        "Step 6 of 10 failed: correct the cause and run again.",
        "ValueError: the <b>fan</b> fell off. The 5 finished steps are kept; "
        "widget.trace raises the error with its full traceback.",
    ]
    with pytest.raises(RunFailed, match="fell off") as caught:
        _ = widget.trace
    assert caught.value.trace is not None
    assert len(caught.value.trace.steps) == 5
    assert isinstance(caught.value.__cause__, ValueError)
    ended = widget.wire.of("end")[0].content
    assert (ended["state"], ended["steps"], ended["error"]) == ("failed", 5, widget.error)
    assert len([m for m in unpack(widget._snapshot) if m.content["type"] == "step"]) == 5
    handle.remove()
    widget.run()
    assert len(widget.trace.steps) == 10
    assert widget.error == ""


def test_a_failure_before_the_first_step_leaves_the_run_before_it(
    make: Make, shared_pipe: StableDiffusionPipeline
) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=2, height=32, width=32)
    assert widget.wait(SECONDS)
    snapshot = widget._snapshot
    widget._session._arguments["height"] = 33
    widget.run()
    assert widget.wait(SECONDS)
    assert widget.status == "failed"
    assert "33" in widget.error
    assert widget._snapshot == snapshot
    assert widget.wire.types().count("run") == 1


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("steps", 0, "steps must be a whole number from 1 to 1000"),
        ("steps", -1, "steps must be a whole number"),
        ("steps", 1.5, "got 1.5"),
        ("steps", True, "got True"),
        ("seed", "seven", "seed must be a whole number from 0 to 9007199254740991, such as 7; got 'seven'"),
        ("seed", 7.0, "got 7.0"),
        ("seed", -1, "got -1"),
        ("seed", 2**53, "seed must be"),
        ("guidance_scale", float("nan"), "guidance_scale must be a number"),
        ("guidance_scale", "7.5", "guidance_scale must be a number"),
        ("schedule", "soon", 'schedule must be "uniform" or "early" or "late"'),
        ("prompt", 7, "prompt must be a text"),
        ("prompt", "x" * 10_001, "at most 10000 characters"),
        ("concepts", "circle", "concepts must be a list of texts"),
        ("concepts", [""], "one is ''"),
        ("concepts", [7], "one is 7"),
        ("concepts", [f"concept {index}" for index in range(500)], "at most 256 texts; got 500"),
        ("selected", [-1], "selected must be a list of indices"),
        ("step", -1, "step must be a whole number from 0"),
    ],
)
def test_invalid_values_are_refused(
    make: Make, shared_pipe: StableDiffusionPipeline, name: str, value: Any, says: str
) -> None:
    from traitlets import TraitError

    with pytest.raises(TraitError) as caught:
        make(shared_pipe, **{name: value})
    assert says in str(caught.value)
    widget = make(shared_pipe)
    before = getattr(widget, name)
    with pytest.raises(TraitError):
        setattr(widget, name, value)
    assert getattr(widget, name) == before
    # from the page: the widget lives on, the page is told, and gets the old value back
    widget.set_state({name: value})
    assert getattr(widget, name) == before
    assert says in widget.wire.of("error")[-1].content["message"]


def test_numpy_numbers_and_empty_concepts_are_welcome(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, seed=np.int64(5), steps=np.int32(2), guidance_scale=np.float32(3))
    assert widget.wait(SECONDS)
    assert (type(widget.seed), widget.concepts) == (int, [])
    widget.concepts = ("  circle ", "circle", "a   star")
    assert widget.concepts == ["circle", "a star"]


@pytest.mark.parametrize(
    ("pipe", "arguments", "says"),
    [
        (42, {}, "pipe must be a diffusers pipeline"),
        (object(), {}, "pipe must be a diffusers pipeline"),
        (None, {"num_inference_steps": 5}, "use steps="),
        (None, {"generator": 1}, "use seed="),
        ("shared", {"num_images_per_prompt": 2}, r"dv\.Tracer"),
        ("shared", {"promt": "x"}, "takes no promt"),
    ],
)
def test_a_wrong_constructor_call_says_what_would_work(
    shared_pipe: StableDiffusionPipeline, pipe: Any, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(TypeError, match=says):
        DiffVis(shared_pipe if pipe == "shared" else pipe, **arguments)


def test_a_pipeline_without_a_prompt_is_refused() -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    unet = UNet2DModel(
        sample_size=8, block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        norm_num_groups=4,
    )  # fmt: skip
    with pytest.raises(TypeError, match="DDPMPipeline takes no prompt"):
        DiffVis(DDPMPipeline(unet, DDPMScheduler()))


def test_a_schedule_that_repeats_steps_is_refused_before_the_run(
    make: Make, shared_pipe: StableDiffusionPipeline
) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=2)
    assert widget.wait(SECONDS)
    widget.steps, widget.schedule, widget.schedule_strength = 300, "early", 0
    with pytest.raises(ValueError, match="repeat"):
        widget.run()
    assert widget.status == "done"


def test_a_scheduler_without_custom_timesteps_fails_with_its_reason(
    make: Make, shared_pipe: StableDiffusionPipeline
) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=5, schedule="late")
    assert widget.wait(SECONDS)
    assert widget.status == "failed"
    assert "DDIMScheduler" in widget.error


# -- what the page asks ------------------------------------------------------------------------------------------------


def test_the_page_starts_a_run_with_new_settings(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=2)
    assert widget.wait(SECONDS)
    page(widget, {"type": "run", "prompt": "a blue star", "seed": 9, "steps": 3, "negative_prompt": None})
    assert widget.trace.prompt == "a blue star"
    assert (widget.prompt, widget.seed, widget.steps, widget.negative_prompt) == ("a blue star", 9, 3, "")


def test_a_refused_request_changes_nothing(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe, prompt=PROMPT, steps=2)
    assert widget.wait(SECONDS)
    page(widget, {"type": "run", "prompt": "another", "steps": 0})
    assert (widget.prompt, widget.steps, widget.status) == (PROMPT, 2, "done")
    assert "steps must be" in widget.wire.of("error")[-1].content["message"]


@pytest.mark.parametrize("content", [None, 7, "run", [], {}, {"type": "dance"}, {"type": "hello"}, {"type": None}])
def test_an_unknown_message_is_answered(make: Make, shared_pipe: StableDiffusionPipeline, content: Any) -> None:
    widget = make(shared_pipe)
    page(widget, content)
    assert "does not know this message" in widget.wire.of("error")[-1].content["message"]


def test_the_page_stops_a_run_from_any_thread(make: Make, pipe: StableDiffusionPipeline, gate: Gate) -> None:
    widget = make(pipe, prompt=PROMPT, steps=20)
    gate.until_held()
    handler = threading.Thread(target=page, args=(widget, {"type": "stop"}))
    handler.start()
    handler.join(SECONDS)
    gate.let_all()
    assert widget.wait(SECONDS)
    assert widget.status == "stopped"
    assert gate.calls == 1


def test_the_page_cannot_set_the_status(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    widget = make(shared_pipe)
    widget.set_state({"status": "done", "error": "x", "_can_run": False, "_snapshot": b"x", "_esm": "alert(1)"})
    assert (widget.status, widget.error, widget._can_run, widget._snapshot) == ("idle", "", True, b"")
    assert "alert(1)" not in widget._esm


def test_a_selected_word_must_exist(make: Make, shared_pipe: StableDiffusionPipeline) -> None:
    from traitlets import TraitError

    widget = make(shared_pipe, prompt=PROMPT, steps=2)
    assert widget.wait(SECONDS)
    widget.selected = [2, 3]
    with pytest.raises(TraitError, match=f"0 to {len(widget.trace.words) - 1}; got 99"):
        widget.selected = [99]
    assert widget.selected == [2, 3]


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_wait_gives_up_after_its_timeout(make: Make, pipe: StableDiffusionPipeline, gate: Gate) -> None:
    widget = make(pipe, prompt=PROMPT, steps=3)
    gate.until_held()
    assert widget.wait(0.01) is False
    assert widget.status == "running"


def test_an_interrupt_while_waiting_stops_the_run(
    make: Make, pipe: StableDiffusionPipeline, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = make(pipe, prompt=PROMPT, steps=20)
    gate.until_held()

    def interrupted(timeout: float | None = None) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(widget._session, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            widget.wait()
    gate.let_all()
    assert widget.wait(SECONDS)
    assert widget.status == "stopped"
    assert gate.calls == 1


def test_arun_gives_the_trace_and_leaves_the_loop_free(make: Make, pipe: StableDiffusionPipeline, gate: Gate) -> None:
    widget = make(pipe, steps=2)
    widget.prompt = PROMPT

    async def both() -> int:
        running = asyncio.create_task(widget.arun())
        while gate.calls == 0:
            await asyncio.sleep(0)
        gate.let_all()
        return len((await running).steps)

    assert asyncio.run(both()) == 2


def test_cancelling_arun_stops_the_run(make: Make, pipe: StableDiffusionPipeline, gate: Gate) -> None:
    widget = make(pipe, steps=20)

    async def cancelled() -> None:
        running = asyncio.create_task(widget.arun())
        while gate.calls == 0:
            await asyncio.sleep(0)
        running.cancel()
        gate.let_all()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(cancelled())
    assert widget.wait(SECONDS)
    assert widget.status == "stopped"


# -- loading -----------------------------------------------------------------------------------------------------------


def test_a_model_that_cannot_be_loaded_is_shown(make: Make, tmp_path: Any) -> None:
    widget = make(str(tmp_path / "nowhere"), prompt=PROMPT)
    assert widget.wait(SECONDS)
    assert widget.status == "failed"
    assert "nowhere" in widget.error
    with pytest.raises(RunFailed):
        _ = widget.trace


def test_a_named_model_loads_in_the_background_and_says_so(
    make: Make, shared_pipe: StableDiffusionPipeline, tmp_path: Any
) -> None:
    shared_pipe.save_pretrained(tmp_path / "tiny")
    notices: list[str] = []
    widget = make(str(tmp_path / "tiny"), prompt=PROMPT, steps=2)
    widget.observe(lambda change: notices.append(change["new"]), "_notice")
    if widget.status == "loading":
        notices.append(widget._notice)
    assert len(widget.trace.steps) == 2
    assert any(notice.startswith("Loading") and "tiny" in notice for notice in notices)
    assert widget._notice == ""


# -- recorded runs -----------------------------------------------------------------------------------------------------


def test_a_recorded_trace_is_shown_without_a_pipeline(
    make: Make, shared_pipe: StableDiffusionPipeline, tmp_path: Any
) -> None:
    trace = dv.trace(shared_pipe, PROMPT, seed=5, num_inference_steps=3, guidance_scale=4.0)
    trace.save(tmp_path / "run.safetensors")
    widget = DiffVis.open(tmp_path / "run.safetensors")
    try:
        assert widget.wait(SECONDS)
        assert (widget.status, widget.error, widget._can_run) == ("done", "", False)
        assert (widget.prompt, widget.seed, widget.steps, widget.guidance_scale) == (PROMPT, 5, 3, 4.0)
        assert [m.content["type"] for m in unpack(widget._snapshot)] == ["run", *["step"] * 3, "end"]
        assert np.array_equal(widget.trace.heat_map("circle"), trace.heat_map("circle"))
        with pytest.raises(RuntimeError, match="recorded run"):
            widget.run()
    finally:
        widget.close()


def test_a_recorded_trace_takes_no_prompt_and_no_arguments(shared_pipe: StableDiffusionPipeline) -> None:
    trace = dv.trace(shared_pipe, PROMPT, seed=5, num_inference_steps=1)
    with pytest.raises(TypeError, match="recorded run"):
        DiffVis(trace, prompt="another")
    with pytest.raises(TypeError, match="height"):
        DiffVis(trace, height=64)


def test_a_file_without_images_still_shows_its_maps(
    make: Make, shared_pipe: StableDiffusionPipeline, tmp_path: Any
) -> None:
    trace = dv.trace(shared_pipe, PROMPT, seed=5, num_inference_steps=2)
    trace.save(tmp_path / "run.safetensors", frames=False)
    widget = make(dv.open_trace(tmp_path / "run.safetensors"))
    assert widget.wait(SECONDS)
    assert (widget.status, widget.error) == ("done", "")
    assert "prediction" not in widget.wire.of("run")[0].content["views"]
    assert widget.wire.of("step")[0].content["maps"]["shape"][0] == len(trace.words)


def test_a_program_that_executes_the_notebook_gets_every_image_exact(
    make: Make, shared_pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera, "DECODE_SECONDS", 0.0)
    monkeypatch.setattr(camera, "DECODE_SHARE", 0.0)
    monkeypatch.setattr(decoding, "QUICK", 0.0)
    monkeypatch.setattr(jupyter, "is_unattended", lambda: True)
    widget = make(shared_pipe, prompt=PROMPT, seed=7, steps=4)
    live: list[bool] = []
    widget.observe(lambda change: live.extend(step["exact"] for step in saved_steps(change["new"])), "_snapshot")
    assert widget.wait(SECONDS)
    assert live == [True] * 4  # saved once, with nothing left for a time after it
    assert not all(message.content["exact"] for message in widget.wire.of("step"))  # previews while it ran


def saved_steps(packed: bytes) -> list[dict[str, Any]]:
    return [message.content for message in unpack(packed) if message.content["type"] == "step"]
