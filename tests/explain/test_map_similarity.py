"""Local similarities against naive loops over windows, and against their textbook properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from diffvis_widget import explain

C1, C2 = 0.01**2, 0.03**2


def naive(a: np.ndarray, b: np.ndarray, kind: str) -> np.ndarray:
    """(h, w) of one channel, window by window, in float64."""
    height, width = a.shape
    sides = [min(15, size if size % 2 else size - 1) for size in (height, width)]
    weights = [np.exp(-((np.arange(side) - side // 2) ** 2) / (2 * 1.5**2)) for side in sides]
    window = np.outer(weights[0] / weights[0].sum(), weights[1] / weights[1].sum())
    padded = [
        np.pad(part.astype(np.float64), ((sides[0] // 2,) * 2, (sides[1] // 2,) * 2), mode="reflect") for part in (a, b)
    ]
    result = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            p, q = (part[y : y + sides[0], x : x + sides[1]] for part in padded)
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            both = (window * (p - mp) * (q - mq)).sum()
            terms = {
                "luminance": (2 * mp * mq + C1) / (mp**2 + mq**2 + C1),
                "contrast": (2 * np.sqrt(vp * vq) + C2) / (vp + vq + C2),
                "structure": (both + C2 / 2) / (np.sqrt(vp * vq) + C2 / 2),
            }
            terms["ssim"] = terms["luminance"] * (2 * both + C2) / (vp + vq + C2)
            result[y, x] = terms[kind]
    return result


@pytest.mark.parametrize("kind", ["structure", "contrast", "luminance", "ssim"])
@pytest.mark.parametrize("size", [(17, 20), (12, 12), (4, 9), (1, 3)])
def test_terms_are_those_of_naive_loops(kind: Any, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((1, 2, *size)).astype(np.float32)
    b = (0.5 * a + rng.standard_normal((3, 2, *size)) * 0.4).astype(np.float32)
    scores = explain.similarity(a, b, kind)
    assert scores.shape == (3, *size)
    assert scores.dtype == np.float32
    for index in range(3):
        expected = np.mean([naive(a[0, channel], b[index, channel], kind) for channel in range(2)], axis=0)
        np.testing.assert_allclose(scores[index], expected, atol=2e-5)


def test_the_cosine_over_channels() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 1, 4, 3, 5)).astype(np.float32)
    b[0, :, 1, 1] = 0
    scores = explain.similarity(a, b, "cosine")
    for y in range(3):
        for x in range(5):
            p, q = a[0, :, y, x], b[0, :, y, x]
            expected = 0 if (y, x) == (1, 1) else p @ q / np.sqrt((p @ p) * (q @ q))
            assert scores[0, y, x] == pytest.approx(expected, abs=1e-6)


def test_ssim_agrees_with_scikit_image_away_from_the_border() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 1, 1, 40, 40)).astype(np.float32)
    options: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    reference: Any = structural_similarity(a[0, 0], b[0, 0], data_range=1.0, full=True, **options)
    expected = reference[1]
    # its window ends at 3.5 sigma, ours at 4.7
    np.testing.assert_allclose(explain.similarity(a, b, "ssim")[0, 8:-8, 8:-8], expected[8:-8, 8:-8], atol=2e-3)


def test_structure_is_blind_to_contrast_and_brightness_and_contrast_to_structure() -> None:
    a = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert explain.similarity(a, 3 * a + 5, "structure").min() > 0.99
    assert explain.similarity(a, -a, "structure").max() < -0.9
    assert explain.similarity(a, -a, "contrast").min() > 0.999
    assert explain.similarity(a, 3 * a, "contrast").max() < 0.7


def test_flat_maps_give_no_nan() -> None:
    """A variance of a constant comes out slightly negative in floating point."""
    a = torch.full((1, 3, 16, 16), 0.1)
    for kind in ("structure", "contrast", "luminance", "ssim", "cosine"):
        assert torch.isfinite(explain.similarity(a, a * 7, kind)).all()
        assert torch.isfinite(explain.similarity(a, a * 0, kind)).all()


def test_bad_input() -> None:
    a = np.zeros((2, 4, 8, 8), np.float32)
    with pytest.raises(ValueError, match=r"kind must be one of 'structure', .*, not 'fid'"):
        explain.similarity(a, a, "fid")  # pyright: ignore[reportArgumentType, reportCallIssue]
    for wrong in (a[0], a[:, :3], np.zeros((3, 4, 8, 8), np.float32)):
        with pytest.raises(ValueError, match=r"must both be \(n, C, h, w\)"):
            explain.similarity(a, wrong)
