"""RISE with smooth masks against a loop over single masks, on planted dependences, and its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from diffvis_widget import explain
from diffvis_widget.explain.masked_regions import smooth_masks, weighted_estimate
from diffvis_widget.tracer import denoiser, trace
from tests import pipelines
from tests.explain.toy import regional, toy_trace
from tests.traces.build import make_trace

REGION = np.zeros((8, 8), dtype=bool)
REGION[4:8, 0:4] = True


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    a, b = first.ravel().astype(np.float64), second.ravel().astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_batches_give_what_single_masks_give() -> None:
    run, _module = toy_trace(regional(REGION))
    probe = denoiser(run, 0)
    latents = probe.latents.numpy()
    masks = smooth_masks(np.random.default_rng(5), 23, (8, 8), 2, 0.4)
    numbers = [cosine(probe(latents * mask), probe(latents)) for mask in masks]
    saliency = explain.smooth_rise(run, 0, masks=23, cells=2, keep=0.4, hidden="zeros", seed=5, progress=False)
    weights = masks.reshape(23, -1).astype(np.float64)
    expected = [np.average(numbers, weights=column) if column.any() else np.nan for column in weights.T]
    np.testing.assert_allclose(saliency.map.ravel(), expected, atol=1e-5)
    assert (saliency.method, saliency.masks_used) == ("smooth_rise", 23)
    assert run.saliency == [saliency]


def test_the_batch_does_not_matter_where_hidden_latents_are_zeros() -> None:
    run, _module = toy_trace(regional(REGION))
    settings: dict[str, Any] = {"masks": 20, "hidden": "zeros", "seed": 3, "progress": False}
    whole = explain.smooth_rise(run, 0, **settings, batch=20).map
    again = explain.smooth_rise(run, 0, **settings, batch=20).map
    np.testing.assert_array_equal(whole, again)


@pytest.mark.parametrize("hidden", ["zeros", "noise"])
def test_the_planted_region_is_found(hidden: Any) -> None:
    run, _module = toy_trace(regional(REGION))
    saliency = explain.smooth_rise(run, 0, masks=1500, cells=2, hidden=hidden, tolerance=0, progress=False)
    assert REGION.ravel()[int(saliency.map.argmax())]
    assert saliency.map[REGION].mean() > saliency.map[~REGION].max()


def test_masks_are_smooth_and_keep_their_share() -> None:
    masks = smooth_masks(np.random.default_rng(0), 4000, (12, 20), 3, 0.3)
    assert masks.shape == (4000, 12, 20)
    assert masks.min() == 0
    assert masks.max() == 1
    np.testing.assert_allclose(masks.mean(axis=0), 0.3, atol=0.03)
    # cells of four pixels: a neighbour differs by a quarter at most
    assert max(np.abs(np.diff(masks, axis=axis)).max() for axis in (1, 2)) <= 0.25 + 1e-6


def test_the_standard_error_is_that_of_repeated_maps() -> None:
    rng = np.random.default_rng(1)
    maps, errors = [], []
    for _ in range(400):
        masks = rng.random((60, 1, 1))
        numbers = (0.5 + 0.3 * masks[:, 0, 0] + 0.2 * rng.standard_normal(60))[:, None, None]
        parts = (masks, masks * numbers, masks**2, masks**2 * numbers, (masks * numbers) ** 2)
        mean, error = weighted_estimate(np.stack([part.sum(axis=0) for part in parts]))
        maps.append(mean.item())
        errors.append(error.item())
    assert 0.9 < np.mean(errors) / np.std(maps) < 1.1


def test_the_error_of_binary_masks_is_the_usual_one() -> None:
    numbers = np.random.default_rng(2).random(9)
    ones = np.ones(9)
    sums = np.array([part.sum() for part in (ones, numbers, ones, numbers, numbers**2)])[:, None, None]
    mean, error = weighted_estimate(sums)
    np.testing.assert_allclose(mean, numbers.mean())
    np.testing.assert_allclose(error, numbers.std(ddof=1) / 3)
    none = weighted_estimate(np.zeros((5, 1, 1)))
    assert np.isnan(none).all()


def test_a_word_is_explained_by_what_it_changes() -> None:
    pipe = pipelines.stable_diffusion()
    run = trace(pipe, "a red circle", seed=1, num_inference_steps=2, guidance_scale=5.0)
    saliency = explain.smooth_rise(run, 1, "circle", masks=6, cells=2, hidden="zeros", batch=3, progress=False)
    assert saliency.method == "word_rise"
    probe = denoiser(run, 1)
    evaluation, rows = probe.branch("prompt")
    other, negative = probe.branch("negative")
    (word,) = (word for word in run.words if word.text == "circle")
    text = probe.arguments(evaluation, rows)["encoder_hidden_states"]
    without = text.clone()
    for token in word.tokens:
        without[0, token] = probe.arguments(other, negative)["encoder_hidden_states"][0, token]

    def change(latents: torch.Tensor) -> np.ndarray:
        with torch.no_grad(), probe.held():
            plain = probe.arguments(evaluation, rows)
            parts = [
                probe.run(evaluation, latents, rows, {**plain, "encoder_hidden_states": part})
                for part in (text, without)
            ]
        return (parts[0] - parts[1]).numpy()

    rng = np.random.default_rng(0)
    size = (int(probe.latents.shape[2]), int(probe.latents.shape[3]))
    masks = np.concatenate([smooth_masks(rng, 3, size, 2, 0.5) for _ in range(2)])
    whole = change(probe.latents)
    numbers = [cosine(change(probe.latents * torch.from_numpy(mask)), whole) for mask in masks]
    expected = np.average(np.broadcast_to(np.array(numbers)[:, None, None], masks.shape), axis=0, weights=masks)
    np.testing.assert_allclose(saliency.map, expected, atol=1e-4)


def test_words_that_cannot_be_taken_out_are_refused() -> None:
    pipe = pipelines.stable_diffusion()
    unguided = trace(pipe, "a red circle", seed=1, num_inference_steps=1, guidance_scale=1.0)
    with pytest.raises(ValueError, match="needs a run with guidance"):
        explain.smooth_rise(unguided, 0, "circle", masks=2, cells=2, progress=False)
    with pytest.raises(KeyError, match="moon"):
        explain.smooth_rise(unguided, 0, "moon", masks=2, cells=2, progress=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cells": 1}, "cells"),
        ({"cells": 9}, "cells must be at most the shorter side of the latents, 8, not 9"),
        ({"keep": 1}, "keep"),
        ({"hidden": "blur"}, "hidden must be one of 'zeros', 'noise'"),
        ({"masks": 1}, "masks"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    run, _module = toy_trace(regional(REGION))
    with pytest.raises(ValueError, match=message):
        explain.smooth_rise(run, 0, **arguments, progress=False)


def test_a_run_without_a_pipeline_is_refused() -> None:
    with pytest.raises(ValueError, match="pipeline"):
        explain.smooth_rise(make_trace(), 0, progress=False)
