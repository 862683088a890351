"""Insertion and deletion games: curves by a loop over single moves, areas in closed form, one scale, baselines."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.ndimage import correlate1d
from skimage.metrics import structural_similarity

from diffvis_widget import explain
from diffvis_widget.concepts import ConceptMeter
from diffvis_widget.explain.baseline_maps import baselines
from diffvis_widget.explain.distances import pairwise
from diffvis_widget.explain.insertion_deletion import area
from diffvis_widget.tracer import denoiser, trace
from diffvis_widget.traces import Trace
from tests import pipelines
from tests.explain.toy import regional, toy_trace

REGION = np.zeros((8, 8), dtype=bool)
REGION[2:5, 4:7] = True


def blurred(latents: np.ndarray) -> np.ndarray:
    """Gaussian of 11 taps (7 on a grid of 8), sigma 5, reflected."""
    taps = np.exp(-((np.arange(7) - 3) ** 2) / 50)
    taps /= taps.sum()
    return correlate1d(correlate1d(latents.astype(float), taps, axis=-1, mode="mirror"), taps, axis=-2, mode="mirror")


def naive(run: Trace, saliency: np.ndarray, target: str) -> tuple[list[float], list[float]]:
    """Root mean square distances of the deletion and the insertion game, move by move."""
    probe = denoiser(run, 0)
    latents = run.latents[0]

    def render(x: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(x[None].astype(np.float32))
        after = probe.clean if target == "prediction" else probe.advance
        return run.decode(after(tensor, probe(tensor)).numpy())[0] / 255.0

    whole = render(latents)
    order = np.argsort(-saliency.ravel())
    results: tuple[list[float], list[float]] = ([], [])
    for move in range(9):
        chosen = np.zeros(64, dtype=bool)
        chosen[order[: 8 * move]] = True
        chosen = chosen.reshape(8, 8)
        for game, x in enumerate((np.where(chosen, 0, latents), np.where(chosen, latents, blurred(latents)))):
            results[game].append(float(np.sqrt(np.mean((render(x) - whole) ** 2))))
    return results


@pytest.mark.parametrize("target", ["previous_sample", "prediction"])
def test_curves_are_those_of_single_moves(target: Any) -> None:
    run, module = toy_trace(regional(REGION))
    rng = np.random.default_rng(0)
    maps = {"mine": rng.random((8, 8)).astype(np.float32), "other": rng.random((8, 8)).astype(np.float32)}
    module.rows.clear()
    result = explain.games(run, 0, maps, "pixels", target=target, batch=16, progress=False)
    assert max(module.rows) == 2 * 16
    # both ends once, then seven moves of each game and map; two parts of the guidance; the check and the whole before
    assert sum(module.rows) == 2 * (2 + 2 * 7 * 5 + 2)
    for name, saliency in maps.items():
        deletion, insertion = naive(run, saliency, target)
        np.testing.assert_allclose(result.deletion[name], np.array(deletion) / deletion[-1], atol=2e-3)
        np.testing.assert_allclose(result.insertion[name], np.array(insertion) / insertion[0], atol=2e-3)
        assert result.normalizers == pytest.approx((deletion[-1], insertion[0]), rel=1e-3)


def test_deletion_puts_in_noise_of_the_step_where_that_is_chosen() -> None:
    run, module = toy_trace(regional(REGION))
    saliency = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    inputs: list[torch.Tensor] = []
    function = module.function
    module.function = lambda sample: inputs.append(sample[:1].clone()) or function(sample)
    explain.games(run, 0, {"mine": saliency}, "pixels", hidden="noise", batch=1, progress=False)
    module.function = function
    probe = denoiser(run, 0)
    latents, level = run.latents[0], probe.level
    evaluated = [part[0].numpy() for part in inputs][-(2 + 2 * 7 * 4) :]  # before: the check and the whole
    put_in = evaluated[0]
    mean = level.alpha * probe.clean(probe.latents, probe.output).mean(dim=(2, 3))[0].numpy()
    noise = put_in - mean[:, None, None]
    assert abs(noise.mean()) < 4 * level.sigma / noise.size**0.5
    assert noise.std() == pytest.approx(level.sigma, rel=0.15)
    order = np.argsort(-saliency.ravel())
    for move, x in enumerate(evaluated[2 + 2 * 7 * 3 :][:7], start=1):  # of the last map; the others are baselines
        chosen = np.zeros(64, dtype=bool)
        chosen[order[: 8 * move]] = True
        np.testing.assert_array_equal(x, np.where(chosen.reshape(8, 8), put_in, latents))


def test_all_maps_share_one_scale_and_both_ends() -> None:
    run, _module = toy_trace(regional(REGION))
    result = explain.games(run, 0, {"flat": np.zeros((8, 8))}, progress=False)
    assert list(result.deletion) == ["random", "centre", "edge", "flat"]
    for name in result.deletion:
        assert result.deletion[name].shape == result.insertion[name].shape == (9,)
        assert result.deletion[name].dtype == np.float32
        assert (result.deletion[name][0], result.deletion[name][-1]) == (0, 1)
        assert (result.insertion[name][0], result.insertion[name][-1]) == (1, 0)


def test_the_planted_region_wins_both_games() -> None:
    run, _module = toy_trace(regional(REGION), prediction="sample")  # the image is the output
    maps = {"truth": REGION.astype(np.float32), "reverse": -REGION.astype(np.float32)}
    result = explain.games(run, 0, maps, "pixels", target="prediction", progress=False)
    others = [name for name in result.deletion if name != "truth"]
    assert all(result.deletion_auc["truth"] > result.deletion_auc[name] for name in others)
    assert result.insertion_auc["truth"] < result.insertion_auc["reverse"]


def test_areas() -> None:
    assert area(np.array([0, 0.5, 1], np.float32)) == 0.5
    assert area(np.array([0, 1, 1, 1, 1], np.float32)) == 1 - 1 / 8


def test_saliency_objects_and_real_pipelines() -> None:
    run = trace(pipelines.stable_diffusion(), "a red circle", seed=1, num_inference_steps=2)
    cam = explain.df_cam(run, 1)
    reports: list[tuple[int, int]] = []
    result = explain.games(run, 1, {"df_cam": cam}, progress=lambda done, total: reports.append((done, total)))
    assert result.deletion["df_cam"].shape == (17,)
    assert reports[-1] == (2 + 2 * 4 * 15,) * 2
    again = explain.games(run, 1, {"df_cam": cam.map}, progress=False)
    np.testing.assert_allclose(result.deletion["df_cam"], again.deletion["df_cam"], atol=1e-6)


def test_several_traces_are_averaged_or_compared_as_sets() -> None:
    traces, modules = zip(*[toy_trace(regional(REGION), seed=seed) for seed in (1, 2, 3)], strict=True)
    maps = {"mine": [np.random.default_rng(seed).random((8, 8)) for seed in (1, 2, 3)]}
    game = explain.games(traces, 0, maps, "pixels", progress=False)
    single = [
        explain.games(run, 0, {"mine": m}, "pixels", progress=False)
        for run, m in zip(traces, maps["mine"], strict=True)
    ]
    raw = np.mean([result.deletion["mine"] * result.normalizers[0] for result in single], axis=0)
    np.testing.assert_allclose(game.deletion["mine"], raw / raw[-1], atol=1e-5)
    sets = explain.games(traces, 0, maps, "frechet", meter=ConceptMeter(), progress=False)
    assert (sets.deletion["mine"][0], sets.deletion["mine"][-1]) == (0, 1)
    assert len(modules) == 3


# -- baselines and distances -------------------------------------------------------------------------------------------


def test_baselines() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 18:] = 255
    sets = baselines(image, (8, 8), np.random.default_rng(0))
    assert list(sets) == ["random", "centre", "edge"]
    assert np.argmax(sets["edge"][3]) == 4  # pixels 16 to 19
    assert sets["edge"][:, 4].sum() == pytest.approx(sets["edge"].sum())
    assert sets["centre"][3:5, 3:5].min() == sets["centre"].max()
    assert sets["centre"][0, 0] == sets["centre"].min()


def test_pairwise_distances() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 48, 48, 3)).astype(np.uint8)
    whole = images[:1]
    np.testing.assert_allclose(
        pairwise("pixels", None)(images, whole),
        [np.sqrt(np.mean((image / 255 - whole[0] / 255) ** 2)) for image in images],
    )
    options: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    options |= {"channel_axis": 2, "data_range": 255}
    expected = [1 - cast("float", structural_similarity(image, whole[0], **options)) for image in images]
    np.testing.assert_allclose(pairwise("ssim", None)(images, whole), expected, atol=0.02)
    meter = ConceptMeter()
    features = meter.image_features(images)
    np.testing.assert_allclose(pairwise("features", meter)(images, whole), 1 - features @ features[0], atol=1e-6)


def test_frechet_distance() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((50, 4)), rng.standard_normal((40, 4)) @ np.diag([1, 2, 3, 4]) + 1
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(np.asarray(sqrtm(covariances[0] @ covariances[1])))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert explain.frechet(a, b) == pytest.approx(expected, rel=1e-9)
    assert explain.frechet(a, a + np.array([3, 0, 0, 0])) == pytest.approx(9)
    assert explain.frechet(a[:, :1], 2 * a[:, :1]) == pytest.approx(a[:, 0].mean() ** 2 + a[:, 0].var(ddof=1))
    for wrong in (a[0], a[:1], a[:, :2]):
        with pytest.raises(ValueError, match=r"first and second must be \(n, D\) and \(m, D\), n, m >= 2"):
            explain.frechet(wrong, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"distance": "fid"}, "distance must be one of 'ssim', 'pixels', 'features', 'frechet', not 'fid'"),
        ({"distance": "frechet"}, '1 given; distance="frechet" compares sets of two or more'),
        ({"hidden": "blur"}, "hidden must be one of 'zeros', 'noise', not 'blur'"),
        ({"target": "output"}, "target must be one of 'previous_sample', 'prediction'"),
        ({"maps": {"a": np.zeros((4, 4))}}, r"maps: 'a' must lie on the latent grid \(8, 8\), not \(4, 4\)"),
        ({"maps": {"a": np.full((8, 8), np.nan)}}, "maps: 'a' must be finite"),
        ({"maps": {"a": [np.zeros((8, 8))] * 2}}, "maps: 'a' holds 2 maps for 1 traces"),
        ({"trace": []}, "0 given"),
        ({"distance": "features"}, "meter=None is for runs of the built-in scenes model"),
    ],
)
def test_bad_input(arguments: dict[str, Any], message: str) -> None:
    run, _module = toy_trace(regional(REGION))
    options: dict[str, Any] = {"trace": run, "step": 0, "maps": {}, "progress": False}
    with pytest.raises(ValueError, match=message):
        explain.games(**(options | arguments))
