"""Building networks and computing beside other threads, with which they share torch's defaults."""

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
from diffvis_widget._compat.torch_defaults import build_with_weights, thread_local_defaults
from diffvis_widget.concepts import ConceptMeter
from diffvis_widget.shipped import clip_folder
from tests import pipelines

PROMPT = "a red circle above a blue square"
HALF_DTYPES = [torch.float16, torch.bfloat16]
NETWORKS = ("unet", "vae", "text_encoder")


@pytest.fixture(params=HALF_DTYPES, ids=str)
def other_default(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """The dtype that `from_pretrained(..., dtype=)` makes the default for a moment; restored after the test."""
    before = torch.get_default_dtype()
    yield request.param
    torch.set_default_dtype(before)


def in_another_thread(job: Callable[[], object]) -> None:
    thread = threading.Thread(target=job)
    thread.start()
    thread.join()


def open_clip_meter() -> ConceptMeter:
    """The scenes CLIP, loaded as any model that open_clip can create."""
    return ConceptMeter(f"local-dir:{clip_folder()}")


@pytest.mark.parametrize("make", [scenes.load, ConceptMeter, open_clip_meter])
def test_building_a_network_sets_no_default_and_draws_nothing(
    make: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    dtypes: list[object] = []
    monkeypatch.setattr(torch, "set_default_dtype", dtypes.append)
    state = torch.get_rng_state()
    make()
    assert dtypes == []
    assert torch.equal(torch.get_rng_state(), state)
    torch.set_default_dtype(torch.float32)
    assert dtypes == [torch.float32], "the function was never replaced"


@pytest.mark.parametrize("make", [scenes.load, ConceptMeter, open_clip_meter])
def test_torch_is_its_own_while_a_network_is_built(make: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    set_default_dtype, register_parameter = torch.set_default_dtype, torch.nn.Module.register_parameter
    load_state_dict = torch.nn.Module.load_state_dict
    checks: list[bool] = []

    def check() -> None:
        checks.append(torch.set_default_dtype is set_default_dtype)
        checks.append(torch.nn.Module.register_parameter is register_parameter)
        checks.append(torch.zeros(1).to("meta").is_meta)

    def checked(network: torch.nn.Module, *args: object, **kwargs: object) -> object:
        check()
        in_another_thread(check)
        return load_state_dict(network, *args, **kwargs)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(torch.nn.Module, "load_state_dict", checked)
    make()
    assert len(checks) >= 6
    assert all(checks)


def assert_same_weights(network: torch.nn.Module, expected: torch.nn.Module) -> None:
    for (name, values), others in zip(network.state_dict().items(), expected.state_dict().values(), strict=True):
        assert values.dtype == others.dtype
        assert torch.equal(values, others), name
    for (name, values), (_, others) in zip(network.named_buffers(), expected.named_buffers(), strict=True):
        assert torch.equal(values, others), name


def test_the_scenes_model_is_loaded_the_same_under_any_default(other_default: torch.dtype) -> None:
    expected = scenes.load()
    torch.set_default_dtype(other_default)
    loaded = scenes.load()
    for name in NETWORKS:
        assert_same_weights(getattr(loaded, name), getattr(expected, name))
    assert torch.get_default_dtype() == other_default


def test_networks_keep_their_values_while_another_thread_makes_empty_ones() -> None:
    expected, meter = scenes.load(), ConceptMeter()
    with init_empty_weights():  # as from_pretrained does where accelerate is installed; it affects all threads
        loaded, other_meter = scenes.load(), ConceptMeter()
        assert torch.nn.Linear(2, 2).weight.is_meta
    for name in NETWORKS:
        assert_same_weights(getattr(loaded, name), getattr(expected, name))
    assert_same_weights(other_meter._model, meter._model)


def test_any_open_clip_model_waits_until_no_thread_makes_empty_networks() -> None:
    expected, meters = open_clip_meter(), list[ConceptMeter]()
    with init_empty_weights():
        loading = threading.Thread(target=lambda: meters.append(open_clip_meter()))
        loading.start()
        loading.join(1)
        assert loading.is_alive()
    loading.join()
    assert_same_weights(meters[0]._model, expected._model)


def test_every_weight_and_buffer_needs_a_value() -> None:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)
            self.register_buffer("mask", torch.ones(2), persistent=False)

    weights, mask = torch.nn.Linear(2, 1).half().state_dict(prefix="layer."), torch.tensor([1.0, 0.0])
    network = build_with_weights(Network, weights, {"mask": mask})
    assert torch.equal(network.layer.weight, weights["layer.weight"].float())
    assert torch.equal(network.get_buffer("mask"), mask)
    assert network.layer.weight.requires_grad
    assert not network.training
    with pytest.raises(ValueError, match=r"values for \['mask'\] of Network, got \[\]"):
        build_with_weights(Network, weights)
    with pytest.raises(RuntimeError, match=r"layer\.bias"):
        build_with_weights(Network, {"layer.weight": weights["layer.weight"]}, {"mask": mask})


@pytest.mark.parametrize("shared_state", ["default dtype", "register_parameter"])
def test_the_workaround_is_still_needed(shared_state: str) -> None:
    """When this fails, torch or accelerate keep that state per thread: remove what `torch_defaults` does about it."""
    dtypes: list[torch.dtype] = []
    if shared_state == "default dtype":
        in_another_thread(lambda: torch.set_default_dtype(torch.float16))
        dtypes.append(torch.zeros(1).dtype)
        torch.set_default_dtype(torch.float32)
        assert dtypes == [torch.float16]
    else:
        with init_empty_weights():
            in_another_thread(lambda: dtypes.extend([torch.float32] * torch.nn.Linear(2, 2).weight.is_meta))
        assert dtypes


def test_the_next_cell_loads_in_half_precision_while_the_widget_runs(tmp_path: Path) -> None:
    pipelines.stable_diffusion().save_pretrained(tmp_path)
    alone = dv.trace(scenes.load(), PROMPT, seed=7, num_inference_steps=12, keep="heads")
    widget = dv.DiffVis(prompt=PROMPT, concepts=["circle", "red"], seed=7, steps=12)
    scored = threading.Event()  # on a busy machine the last images are decoded and scored after the run
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
    for expected, values in zip(plain, run(), strict=True):
        assert values.dtype == expected.dtype
        assert np.array_equal(values, expected)
    meter = ConceptMeter()
    for expected, values in zip(plain, run(), strict=True):
        assert np.array_equal(values, expected)


def test_other_threads_keep_torchs_defaults() -> None:
    results: dict[str, object] = {}

    def other() -> None:
        torch.set_default_dtype(torch.float64)
        results["created"] = torch.zeros(1).dtype
        torch.manual_seed(5)
        results["drawn"] = torch.rand(3, dtype=torch.float32)
        results["moved"] = torch.zeros(1).to("meta").is_meta

    torch.manual_seed(5)
    expected = torch.rand(3)
    with thread_local_defaults():
        in_another_thread(other)
        assert torch.get_default_dtype() == torch.float64
        assert torch.zeros(1).dtype == torch.float32
        assert torch.zeros(1).to("meta").is_meta
        state = torch.get_rng_state()
        torch.nn.Linear(2, 2)
        assert torch.equal(torch.get_rng_state(), state)
    torch.set_default_dtype(torch.float32)
    assert results["created"] == torch.float64
    assert torch.equal(torch.as_tensor(results["drawn"]), expected)
    assert results["moved"]


def test_blocks_of_two_threads_overlap() -> None:
    inside, leave = threading.Event(), threading.Event()
    created: list[torch.dtype] = []

    def other() -> None:
        with thread_local_defaults():
            inside.set()
            assert leave.wait(60)
            created.append(torch.zeros(1).dtype)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(60)
    with thread_local_defaults():
        pass
    torch.set_default_dtype(torch.float64)  # this thread has left its block, the other is still in its own
    assert torch.zeros(1).dtype == torch.float64
    leave.set()
    thread.join()
    torch.set_default_dtype(torch.float32)
    assert created == [torch.float32]
