"""DF-RISE against a loop over single masks, on a denoiser whose dependence is planted, and its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from diffvis_widget import explain
from diffvis_widget.concepts import ConceptMeter
from diffvis_widget.explain.rise import estimate
from diffvis_widget.tracer import denoiser, trace
from tests import pipelines
from tests.explain.toy import regional, toy_trace
from tests.traces.build import make_trace

REGION = np.zeros((8, 8), dtype=bool)
REGION[2:5, 4:7] = True


def naive(run: Any, masks: int, kind: Any, keep: float, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Mask by mask, as Algorithm 1 of the paper writes it; the sample standard error beside."""
    probe = denoiser(run, 0)
    latents = probe.latents.numpy()

    def after(x: np.ndarray) -> np.ndarray:
        output = probe(x)
        if target == "output":
            return output
        return probe.advance(torch.from_numpy(x), torch.from_numpy(output)).numpy()

    whole = after(latents)
    rng = np.random.default_rng(5)
    shown = []
    for _ in range(masks):
        mask = (rng.random(latents.shape[2:]) < keep).astype(np.float32)
        shown.append(mask * explain.similarity(whole, after(latents * mask), kind)[0])
    stacked = np.array(shown, dtype=np.float64)
    return stacked.sum(axis=0) / (masks * keep), stacked.std(axis=0, ddof=1) / keep / np.sqrt(masks)


@pytest.mark.parametrize(
    ("kind", "keep", "target"),
    [("structure", 0.5, "output"), ("cosine", 0.8, "output"), ("ssim", 0.3, "previous_sample")],
)
def test_batches_give_what_single_masks_give(kind: Any, keep: float, target: Any) -> None:
    run, _module = toy_trace(regional(REGION))
    saliency = explain.df_rise(run, 0, 23, kind, keep=keep, target=target, seed=5, batch=6, tolerance=0, progress=False)
    mean, error = naive(run, 23, kind, keep, target)
    assert saliency.masks_used == 23
    assert saliency.stderr is not None
    assert saliency.map.dtype == saliency.stderr.dtype == np.float32
    np.testing.assert_allclose(saliency.map, mean, atol=1e-5)
    np.testing.assert_allclose(saliency.stderr, error, atol=1e-5)


def test_the_planted_region_is_found() -> None:
    run, _module = toy_trace(regional(REGION))
    saliency = explain.df_rise(run, 0, 1500, coverage="actual", tolerance=0, progress=False)
    top = np.argsort(-saliency.map, axis=None)[: REGION.sum()]
    assert REGION.ravel()[top].mean() == 1
    assert saliency.map[REGION].min() > saliency.map[~REGION].max()


def test_both_coverages_have_the_same_limit_and_honest_errors() -> None:
    """Maps of many masks as truth: those of few lie about as far away as their standard errors say."""
    run, _module = toy_trace(regional(REGION))
    truth = explain.df_rise(run, 0, 8000, coverage="actual", tolerance=0, seed=99, progress=False).map
    errors: dict[str, float] = {}
    for coverage in ("expected", "actual"):
        ratios = []
        for seed in range(8):
            few = explain.df_rise(run, 0, 100, coverage=coverage, tolerance=0, seed=seed, progress=False)
            assert few.stderr is not None
            ratios.append(np.mean((few.map - truth) ** 2) / np.mean(few.stderr**2))
            errors[coverage] = float(few.stderr.mean())
        assert 0.5 < np.mean(ratios) < 2
    assert errors["actual"] < errors["expected"]


def test_estimates_in_closed_form() -> None:
    """S = 1 always: expected coverage shows how often a pixel was drawn, actual coverage nothing."""
    drawn = np.array([[3.0, 5.0, 0.0]])
    mean, error = estimate(np.stack([drawn] * 3), 10, 0.5)
    np.testing.assert_allclose(mean, [[0.6, 1.0, 0.0]])
    expected = [np.std([2.0] * k + [0.0] * (10 - k), ddof=1) / np.sqrt(10) for k in (3, 5)]
    np.testing.assert_allclose(error, [[*expected, np.nan]])
    mean, error = estimate(np.stack([drawn] * 3), 10, None)
    np.testing.assert_array_equal(mean, [[1, 1, np.nan]])
    np.testing.assert_allclose(error[0, :2], 0, atol=1e-12)


def test_it_stops_when_the_map_has_converged() -> None:
    run, module = toy_trace(regional(REGION))
    saliency = explain.df_rise(run, 0, 5000, coverage="actual", tolerance=0.05, batch=50, progress=False)
    assert 100 <= saliency.masks_used < 5000
    assert saliency.masks_used % 50 == 0
    assert saliency.stderr is not None
    assert np.mean(saliency.stderr**2) <= 0.05 * saliency.map.var()
    assert max(module.rows) == 2 * 50  # both parts of the guidance of a batch at once
    same = explain.df_rise(run, 0, saliency.masks_used, coverage="actual", tolerance=0, batch=7, progress=False)
    np.testing.assert_allclose(same.map, saliency.map, atol=1e-5)


def test_progress_is_told_and_may_stop() -> None:
    run, _module = toy_trace(regional(REGION))
    reports: list[tuple[int, int]] = []
    explain.df_rise(run, 0, 25, batch=10, progress=lambda done, total: reports.append((done, total)))
    assert reports == [(10, 25), (20, 25), (25, 25)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain.df_rise(run, 0, 25, progress=stop)


def test_a_bar_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run, _module = toy_trace(regional(REGION))
    explain.df_rise(run, 0, 4)
    assert "DF-RISE" in capsys.readouterr().err


def test_features_of_the_decoded_images() -> None:
    run, _module = toy_trace(regional(REGION))
    meter = ConceptMeter()
    saliency = explain.df_rise(run, 0, 6, "features", meter=meter, seed=5, progress=False)
    probe = denoiser(run, 0)
    rng = np.random.default_rng(5)
    total = np.zeros((8, 8))

    def features(x: torch.Tensor) -> np.ndarray:
        return meter.image_features(run.decode(probe.clean(x, probe(x)).numpy()))[0]

    whole = features(probe.latents)
    for _ in range(6):
        mask = rng.random((8, 8)) < 0.5
        total += mask * (features(probe.latents * torch.from_numpy(mask)) @ whole)
    np.testing.assert_allclose(saliency.map, total / 3, atol=1e-5)
    with pytest.raises(ValueError, match="meter=None is for runs of the built-in scenes model"):
        explain.df_rise(run, 0, 6, "features", progress=False)


def test_on_a_real_pipeline() -> None:
    run = trace(pipelines.stable_diffusion(), "a red circle", seed=1, num_inference_steps=2)
    saliency = explain.df_rise(run, -1, 8, progress=False)
    assert (saliency.method, saliency.step, saliency.map.shape) == ("df_rise", 1, (16, 16))
    assert saliency.scaled.min() == 0
    assert saliency.scaled.max() == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"masks": 0}, ValueError, "masks must be an integer from 2 to 1000000, not 0"),
        ({"masks": 2.5}, TypeError, "masks must be an integer from 2 to 1000000, not 2.5"),
        ({"keep": 0}, ValueError, "keep must be a number between 0 and 1, both excluded, not 0"),
        ({"keep": 1.0}, ValueError, "keep must be a number between 0 and 1, both excluded, not 1.0"),
        ({"keep": "half"}, TypeError, "keep must be a number between 0 and 1"),
        ({"keep": float("nan")}, ValueError, "keep must be a number"),
        ({"similarity": "fid"}, ValueError, "similarity must be one of 'structure', .*'features', not 'fid'"),
        ({"target": "image"}, ValueError, "target must be one of 'output', 'previous_sample', not 'image'"),
        ({"coverage": "half"}, ValueError, "coverage must be one of"),
        ({"tolerance": -1}, ValueError, "tolerance must be a number from 0 to 1, not -1"),
        ({"seed": -1}, ValueError, "seed must be an integer from 0 to"),
        ({"batch": 0}, ValueError, "batch must be an integer from 1 to"),
        ({"step": 1}, IndexError, "step 1 is out of range: the indices of this trace's steps are 0 to 0"),
    ],
)
def test_bad_input(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    run, _module = toy_trace(regional(REGION))
    options: dict[str, Any] = {"step": 0} | arguments
    with pytest.raises(error, match=message):
        explain.df_rise(run, **options)


def test_a_trace_without_a_pipeline() -> None:
    for method in (explain.df_rise, explain.df_cam, explain.df_lime):
        with pytest.raises(ValueError, match="no live pipeline"):
            method(make_trace(), 0)
