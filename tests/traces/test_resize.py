"""The numpy resizing against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from diffvis_widget.traces.resize import mean_maps, resize


@pytest.mark.parametrize("size", [(16, 16), (5, 7), (3, 3), (1, 1), (64, 48), (4, 6)])
def test_equals_torch(size: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).random((3, 4, 6), dtype=np.float32)
    expected = interpolate(torch.from_numpy(maps)[None], size=size, mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(resize(maps, size), expected.numpy(), atol=1e-6)


def test_mean_of_layers_on_different_grids() -> None:
    rng = np.random.default_rng(1)
    layers = [rng.random((2, *grid), dtype=np.float32) for grid in ((2, 3), (8, 12), (4, 6), (2, 3))]
    expected = np.mean([resize(layer, (8, 12)) for layer in layers], axis=0)
    np.testing.assert_allclose(mean_maps(layers), expected, atol=1e-6)
    np.testing.assert_allclose(
        mean_maps(layers, (3, 3)), np.mean([resize(layer, (3, 3)) for layer in layers], axis=0), atol=1e-6
    )


def test_a_skipped_layer_is_left_out_of_the_mean() -> None:
    computed = np.ones((1, 4, 4), dtype=np.float32)
    skipped = np.full((1, 2, 2), np.nan, dtype=np.float32)
    np.testing.assert_array_equal(mean_maps([computed, skipped]), computed)
    assert np.isnan(mean_maps([skipped, skipped])).all()
