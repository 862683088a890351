"""Contour lines: against circles, whose lines are known, and against the values between the cells that they cross."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from diffvis_widget.export.contours import draw_lines, draw_outlined_lines, trace_contours


def cone(height: int, width: int, x: float, y: float) -> np.ndarray:
    """The distance of each cell's centre from a point, negative, so that it is highest there."""
    rows, columns = np.indices((height, width)) + 0.5
    return -np.hypot(columns - x, rows - y)


def test_a_line_lies_where_the_field_has_its_level() -> None:
    (ring,) = trace_contours(cone(40, 60, 25.3, 18.7), -11.0)
    assert ring[0].tolist() == ring[-1].tolist(), "it is closed"
    np.testing.assert_allclose(np.hypot(ring[:, 0] - 25.3, ring[:, 1] - 18.7), 11, atol=0.02)
    assert np.hypot(*np.diff(ring, axis=0).T).max() < 1.5, "from cell to cell"
    around = np.unwrap(np.arctan2(ring[:, 1] - 18.7, ring[:, 0] - 25.3))
    assert abs(around[-1] - around[0]) == pytest.approx(2 * np.pi)


def test_a_line_that_leaves_the_image_ends_at_its_border() -> None:
    (arc,) = trace_contours(cone(30, 30, 0.0, 15.0), -9.0)
    assert (arc[0, 0], arc[-1, 0]) == (0, 0)
    assert sorted(arc[[0, -1], 1]) == pytest.approx([6, 24], abs=0.1)


def test_lines_are_closed_or_end_at_the_border() -> None:
    field = np.random.default_rng(5).normal(size=(20, 30))  # full of saddles
    level = float(np.median(field))
    contours = trace_contours(field, level)
    for line in contours:
        closed = line[0].tolist() == line[-1].tolist()
        assert closed or all(x in (0, 30) or y in (0, 20) for x, y in line[[0, -1]])
    inner = np.concatenate([line for line in contours if len(line) > 1])
    inner = inner[((inner > 0.5) & (inner < np.array([29.5, 19.5]))).all(axis=1)]
    x, y = inner.T - 0.5
    left, top = np.floor(x + 1e-9).astype(int), np.floor(y + 1e-9).astype(int)
    right, below = np.ceil(x - 1e-9).astype(int), np.ceil(y - 1e-9).astype(int)
    share = np.maximum(x - left, y - top)
    np.testing.assert_allclose(field[top, left] * (1 - share) + field[below, right] * share, level, atol=1e-6)


@pytest.mark.parametrize("size", [200, 1100])
def test_a_stroke_is_as_wide_and_strong_as_asked(size: int) -> None:
    ground = Image.new("RGB", (size, 60), (0, 0, 0))
    path = [np.array([(-5.0, 30.0), (size + 5.0, 30.0)])]
    across = np.asarray(draw_lines(ground, path, 6, (200, 100, 50), 0.5), dtype=float)[:, size // 2]
    assert across[30].tolist() == pytest.approx([100, 50, 25], abs=1)
    assert across[:, 0].sum() / 100 == pytest.approx(6, abs=0.6)
    column = np.asarray(draw_outlined_lines(Image.new("RGB", (size, 60), (255, 255, 255)), path, 4))[:, size // 2, 0]
    assert column[30] == 255
    assert column[26] < 160, "a light line is seen on a light ground"
    assert draw_outlined_lines(ground, [], 4) is ground
