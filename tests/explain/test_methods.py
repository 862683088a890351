"""Maps as a view asks for them: the methods' own, with progress, an estimate, and an end when it is asked for."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffvis_widget import explain, open_trace
from diffvis_widget.tracer import trace
from diffvis_widget.traces import Trace
from tests import pipelines
from tests.explain.toy import SHAPE, Toy, regional, toy_trace

REGION = np.zeros((8, 8), dtype=bool)
REGION[2:5, 4:7] = True


@pytest.fixture
def toy() -> tuple[Trace, Toy]:
    return toy_trace(regional(REGION))


def test_a_map_is_the_methods_own(toy: tuple[Trace, Toy]) -> None:
    made = explain.overlay(toy[0], 0, "df_rise")
    assert (made.method, made.step) == ("df_rise", 0)
    heat_map = made.map
    expected = explain.df_rise(toy[0], 0, coverage="actual", batch=7, progress=False).map
    assert (heat_map.shape, heat_map.dtype) == (SHAPE[1:], np.float32)
    assert np.corrcoef(heat_map.ravel(), expected.ravel())[0, 1] > 0.9
    assert heat_map[REGION].mean() > heat_map[~REGION].mean()


def test_progress_rises_from_nothing_to_all(toy: tuple[Trace, Toy]) -> None:
    reports: list[float] = []
    explain.overlay(toy[0], 0, "df_rise", progress=reports.append)
    assert (reports[0], reports[-1]) == (0, 1)
    assert reports == sorted(reports)
    assert len(reports) > 3


def test_it_stops_when_asked_and_leaves_nothing(toy: tuple[Trace, Toy]) -> None:
    run, module = toy
    stop = threading.Event()
    reports: list[float] = []

    def progress(share: float) -> None:
        reports.append(share)
        if share > 0:
            stop.set()

    with pytest.raises(explain.Cancelled, match="df_rise of step 0 was cancelled"):
        explain.overlay(run, 0, "df_rise", progress=progress, stop=stop.is_set)
    assert 0 < reports[-1] < 1
    rows = sum(module.rows)
    with pytest.raises(explain.Cancelled):
        explain.overlay(run, 0, "df_cam", stop=stop.is_set)
    assert sum(module.rows) == rows  # not begun
    assert run.saliency == []
    assert explain.overlay(run, 0, "df_rise").map.shape == SHAPE[1:]


def test_the_trace_stores_the_newest_map_of_each_method_and_step(toy: tuple[Trace, Toy]) -> None:
    run = toy[0]
    maps = run.saliency
    first = explain.df_rise(run, 0, 4, progress=False)
    assert run.saliency == [first]
    explain.df_lime(run, 0, 4, progress=False)
    lime = explain.overlay(run, -1, "df_lime")  # the same step, counted from the end
    assert run.saliency == [first, lime]
    second = explain.df_rise(run, 0, 4, seed=1, progress=False)
    assert second.map.tolist() != first.map.tolist()
    assert run.saliency == [lime, second]
    assert run.saliency is maps
    with pytest.raises(ValueError, match="masks"):
        explain.df_rise(run, 0, 1)
    assert run.saliency == [lime, second]


def test_an_estimate_covers_what_is_evaluated(toy: tuple[Trace, Toy], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0, 1000, 2.0))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    # an evaluation alone took two seconds, and so did four at once
    assert explain.estimate(toy[0], 0, "df_rise") == 110 * 2.0 / 4  # it usually converges before its 500 masks
    assert explain.estimate(toy[0], 0, "df_cam") == 3 * 2.0  # one by one
    assert explain.estimate(toy[0], 0, "df_lime") == 300 * 2.0 / 4


def test_all_methods_on_a_pipeline() -> None:
    run = trace(pipelines.stable_diffusion(), "a red circle", seed=1, num_inference_steps=1)
    for method in explain.registered_methods():
        if method.name != "df_rise":  # of 500 masks: see above
            assert explain.overlay(run, 0, method.name).map.shape == run.latents.shape[2:]


def test_the_registry_is_there_without_torch() -> None:
    code = "import sys, diffvis_widget as dv; dv.explain.registered_methods(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_every_public_name_is_there() -> None:
    assert all(getattr(explain, name) is not None for name in explain.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'lrp'; it has"):
        _ = explain.lrp


def test_bad_input(toy: tuple[Trace, Toy], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one of 'df_rise', 'smooth_rise', 'df_cam', 'df_lime', not 'lrp'"):
        explain.overlay(toy[0], 0, "lrp")
    with pytest.raises(ValueError, match="method must be one of"):
        explain.estimate(toy[0], 0, "lrp")
    with pytest.raises(IndexError, match="step 3 is out of range"):
        explain.overlay(toy[0], 3, "df_cam")
    toy[0].save(tmp_path / "run.safetensors")
    with pytest.raises(ValueError, match="opened from a file"):
        explain.overlay(open_trace(tmp_path / "run.safetensors"), 0, "df_cam")


def test_relevance_of_a_run_that_is_there() -> None:
    pipe: Any = pipelines.stable_diffusion()
    made = explain.relevance(pipe, "a red circle", seed=1, num_inference_steps=1, progress=False)
    calls: list[int] = []
    handle = pipe.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    again = explain.relevance_of(pipe, made.trace, progress=False)
    handle.remove()
    np.testing.assert_allclose(again.maps, made.maps, rtol=1e-5, atol=1e-9)
    assert again.trace is made.trace
    assert len(calls) == 2  # one check, one look back
    with pytest.raises(ValueError, match="made with another pipeline"):
        explain.relevance_of(pipelines.stable_diffusion(), made.trace)
