"""Loading and computing beside other threads: torch's default dtype and random generator belong to all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import init_empty_weights
from diffusers import StableDiffusionPipeline

import diffvis_widget as dv
from diffvis_widget import scenes
from diffvis_widget._compat.torch_defaults import own_defaults
from diffvis_widget.concepts import ConceptMeter
from tests import pipelines

PROMPT = "a red circle above a blue square"
HALVES = [torch.float16, torch.bfloat16]
PARTS = ("unet", "vae", "text_encoder")


@pytest.fixture(params=HALVES, ids=str)
def other_default(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """What `from_pretrained(..., dtype=)` makes the default for a moment; undone after the test."""
    before = torch.get_default_dtype()
    yield request.param
    torch.set_default_dtype(before)


def elsewhere(job: Callable[[], object]) -> None:
    thread = threading.Thread(target=job)
    thread.start()
    thread.join()


@pytest.mark.parametrize("make", [scenes.load, ConceptMeter])
def test_making_a_network_sets_no_default_and_draws_nothing(
    make: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(torch, "set_default_dtype", asked.append)
    state = torch.get_rng_state()
    make()
    assert asked == []
    assert torch.equal(torch.get_rng_state(), state)
    torch.set_default_dtype(torch.float32)
    assert asked == [torch.float32], "afterwards it is torch's own function again"


def check_same(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    for (name, one), other in zip(found.state_dict().items(), expected.state_dict().values(), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other), name
    assert not any(buffer.is_meta for buffer in found.buffers())


def test_the_scenes_model_is_loaded_the_same_under_any_default(other_default: torch.dtype) -> None:
    plain = scenes.load()
    torch.set_default_dtype(other_default)
    loaded = scenes.load()
    for name in PARTS:
        check_same(getattr(loaded, name), getattr(plain, name))
    assert torch.get_default_dtype() == other_default


def test_networks_keep_their_values_while_another_thread_makes_empty_ones() -> None:
    plain, meter = scenes.load(), ConceptMeter()
    with init_empty_weights():  # as from_pretrained does where accelerate is installed; it holds for all threads
        loaded, other_meter = scenes.load(), ConceptMeter()
        assert torch.nn.Linear(2, 2).weight.is_meta
    for name in PARTS:
        check_same(getattr(loaded, name), getattr(plain, name))
    check_same(other_meter._model, meter._model)


def test_the_next_cell_loads_in_half_precision_while_the_widget_runs(tmp_path: Path) -> None:
    pipelines.stable_diffusion().save_pretrained(tmp_path)
    alone = dv.trace(scenes.load(), PROMPT, seed=7, num_inference_steps=12, keep="heads")
    widget = dv.DiffVis(prompt=PROMPT, concepts=["circle", "red"], seed=7, steps=12)
    scored = threading.Event()  # on a busy machine the last pictures are decoded, and scored, after the run
    widget.observe_scores(lambda scores: scored.set() if len(scores.cosine) == 12 else None)
    loads = 0
    while not widget.wait(0):
        StableDiffusionPipeline.from_pretrained(tmp_path, dtype=torch.float16)
        loads += 1
    trace = widget.trace
    assert loads > 1
    assert np.array_equal(trace.image, alone.image)
    assert np.array_equal(trace.heat_maps(), alone.heat_maps())
    assert scored.wait(60), widget._notice
    assert torch.get_default_dtype() == torch.float32
    widget.close()


def test_a_run_and_its_scores_are_the_same_under_any_default(other_default: torch.dtype) -> None:
    pipe, meter = scenes.load(), ConceptMeter()

    def run() -> list[np.ndarray]:
        trace = dv.trace(pipe, PROMPT, seed=3, num_inference_steps=4)
        scores = dv.concept_scores(trace, ["circle", "red"], meter)
        relevance = dv.explain.relevance_of(pipe, trace, grid=6, progress=False)
        return [trace.image, trace.heat_maps(), trace.latents, scores.cosine, scores.null_band, relevance.maps]

    plain = run()
    torch.set_default_dtype(other_default)
    for expected, found in zip(plain, run(), strict=True):
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
    meter = ConceptMeter()
    for expected, found in zip(plain, run(), strict=True):
        assert np.array_equal(found, expected)


def test_other_threads_keep_torchs_defaults() -> None:
    told: dict[str, object] = {}

    def other() -> None:
        torch.set_default_dtype(torch.float64)
        told["made"] = torch.zeros(1).dtype
        torch.set_default_dtype(torch.float32)
        torch.manual_seed(5)
        told["drawn"] = torch.rand(3)
        told["moved"] = torch.zeros(1).to("meta").is_meta

    torch.manual_seed(5)
    expected = torch.rand(3)
    with own_defaults():
        torch.set_default_dtype(torch.float16)
        elsewhere(other)
        assert torch.zeros(1).dtype == torch.float32
        assert torch.zeros(1).to("meta").to(torch.ones(1)).device.type == "cpu"
    assert told["made"] == torch.float64
    assert torch.equal(torch.as_tensor(told["drawn"]), expected)
    assert told["moved"]
    assert torch.get_default_dtype() == torch.float32


def test_blocks_of_two_threads_overlap() -> None:
    inside, left = threading.Event(), threading.Event()
    original = torch.set_default_dtype

    def other() -> None:
        with own_defaults():
            inside.set()
            assert left.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(60)
    with own_defaults():
        pass
    torch.set_default_dtype(torch.float64)  # this thread has left its block, the other is still in its own
    assert torch.get_default_dtype() == torch.float64
    torch.set_default_dtype(torch.float32)
    left.set()
    thread.join()
    assert torch.set_default_dtype is original
