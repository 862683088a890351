"""DF-LIME against weighted ridge regression written out, on a denoiser whose dependence is planted, and its errors."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from diffusers import IPNDMScheduler
from skimage.segmentation import quickshift

from diffvis_widget import explain
from diffvis_widget.explain.lime import superpixels
from diffvis_widget.tracer import denoiser, trace
from tests import pipelines
from tests.explain.toy import regional, toy_trace


def blocks() -> np.ndarray:
    """uint8 (64, 64, 3): four flat quarters."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :32] = (250, 20, 20)
    image[32:, :32] = (20, 250, 20)
    image[:32, 32:] = (20, 20, 250)
    image[32:, 32:] = (240, 240, 20)
    return image


def test_superpixels_are_those_of_quickshift() -> None:
    image = blocks()
    segments = superpixels(image, (8, 8))
    labels = quickshift(image, kernel_size=4, max_dist=200, ratio=0.2)
    for y in range(8):
        for x in range(8):
            votes = np.bincount(labels[8 * y : 8 * y + 8, 8 * x : 8 * x + 8].ravel(), minlength=labels.max() + 1)
            same = (segments == segments[y, x]) & (np.arange(64).reshape(8, 8) != 8 * y + x)
            for other_y, other_x in zip(*np.nonzero(same), strict=True):
                cell = labels[8 * other_y : 8 * other_y + 8, 8 * other_x : 8 * other_x + 8]
                assert np.bincount(cell.ravel(), minlength=labels.max() + 1).argmax() == votes.argmax()
    assert set(segments.ravel()) == set(range(segments.max() + 1))
    assert len({segments[0, 0], segments[0, 7], segments[7, 0], segments[7, 7]}) == 4


def test_against_ridge_regression_written_out() -> None:
    run, module = toy_trace(regional(np.ones((8, 8), dtype=bool)))
    run.keep_frame("prediction", 0, blocks())
    saliency = explain.df_lime(run, 0, 60, seed=3, batch=16, progress=False)
    assert saliency.masks_used == 60
    assert max(module.rows) == 32
    segments = superpixels(blocks(), (8, 8))
    parts = segments.max() + 1
    switches = np.random.default_rng(3).integers(0, 2, (60, parts)).astype(float)
    switches[0] = 1
    probe = denoiser(run, 0)
    outputs = np.stack([probe(run.latents[:1] * row[segments]).ravel() for row in switches.astype(np.float32)])
    ones = np.ones(parts)
    cosines = np.array(
        [row @ ones / (np.linalg.norm(row) * np.linalg.norm(ones)) if row.any() else 0 for row in switches]
    )
    weights = np.sqrt(np.exp(-((1 - cosines) ** 2) / 0.25**2))
    # ridge as ordinary least squares: rows scaled by the root of their weight, and one more row per penalised factor
    design = np.concatenate([switches, np.ones((60, 1))], axis=1) * np.sqrt(weights)[:, None]
    design = np.concatenate([design, np.eye(parts, parts + 1)])
    targets = np.concatenate([outputs * np.sqrt(weights)[:, None], np.zeros((parts, outputs.shape[1]))])
    coefficients = np.linalg.lstsq(design, targets, rcond=None)[0][:-1]
    strengths = np.sqrt((coefficients**2).mean(axis=1))
    np.testing.assert_allclose(saliency.map, strengths[segments], rtol=1e-3)


def test_the_planted_superpixel_is_found() -> None:
    region = np.zeros((8, 8), dtype=bool)
    region[:4, 4:] = True
    run, _module = toy_trace(regional(region))
    run.keep_frame("prediction", 0, blocks())
    saliency = explain.df_lime(run, 0, 200, progress=False)
    assert saliency.map[region].min() > 5 * saliency.map[~region].max()


def test_on_a_real_pipeline() -> None:
    run = trace(pipelines.stable_diffusion(), "a red circle", seed=1, num_inference_steps=2)
    saliency = explain.df_lime(run, 1, 5, progress=False)
    assert (saliency.method, saliency.step, saliency.map.shape, saliency.stderr) == ("df_lime", 1, (16, 16), None)
    assert np.isfinite(saliency.map).all()


def test_without_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    run, _module = toy_trace(regional(np.ones((8, 8), dtype=bool)))
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(ImportError, match=r'pip install "diffvis-widget\[explain\]"'):
        explain.df_lime(run, 0)


def test_bad_input() -> None:
    run, _module = toy_trace(regional(np.ones((8, 8), dtype=bool)))
    with pytest.raises(ValueError, match="samples must be an integer from 2 to 1000000, not 1"):
        explain.df_lime(run, 0, 1)
    with pytest.raises(IndexError, match="step 5 is out of range"):
        explain.df_lime(run, 5)


def test_a_run_without_predicted_images_has_no_superpixels() -> None:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = IPNDMScheduler()
    run = trace(pipe, "a red circle", seed=0, num_inference_steps=5)
    with pytest.raises(ValueError, match="superpixels are those of the predicted image, and this run has none"):
        explain.df_lime(run, 1, 4, progress=False)
