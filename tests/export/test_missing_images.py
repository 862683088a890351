"""Exports of runs whose predicted images are not known say so; nothing grey passes for an image."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import diffvis_widget as dv
from diffvis_widget.traces import Trace
from tests.traces.build import fake_decoder, make_trace


def without_predictions(*steps: int, noise_levels: str | None = None) -> Trace:
    trace = make_trace(steps=3)
    records = [
        replace(record, prediction=np.full_like(record.prediction, np.nan)) if index in steps else record
        for index, record in enumerate(trace.records)
    ]
    missing = make_trace(steps=0, decoder=lambda latents: fake_decoder(np.nan_to_num(latents)))
    if noise_levels:
        missing.meta["noise_levels"] = noise_levels
    for record in records:
        missing.append(record)
    return missing


@pytest.mark.parametrize("make", ["png", "filmstrip", "webp", "gif"])
def test_a_run_without_noise_levels_is_refused(make: str, tmp_path: Path) -> None:
    trace = without_predictions(0, 1, 2, noise_levels="unknown")
    options = {"step": 1} if make == "png" else {}
    path = tmp_path / f"run.{'png' if make in ('png', 'filmstrip') else make}"
    with pytest.raises(ValueError, match="no predicted image to export: the noise levels of its scheduler are not"):
        getattr(dv.export, make)(trace, path, **options)
    assert not path.exists()
    with pytest.raises(ValueError, match='view="latents"'):
        getattr(dv.export, make)(trace, view="change", **options)


def test_what_has_an_image_is_exported_without_a_word() -> None:
    trace = without_predictions(0, 1, 2, noise_levels="unknown")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dv.export.filmstrip(trace, view="latents")
        assert dv.export.png(trace, caption=False)  # the final image
        assert dv.export.webp(make_trace(), size=64)


def test_a_map_over_a_missing_image_is_drawn_with_a_warning() -> None:
    trace = without_predictions(0, 1, 2, noise_levels="unknown")
    with pytest.warns(UserWarning, match="no predicted image for step 2, drawn grey in its place: the noise levels"):
        assert dv.export.png(trace, step=1, words=["circle"])


def test_single_steps_without_an_image_are_named() -> None:
    trace = without_predictions(2)
    with pytest.warns(UserWarning, match="no predicted image for step 3, drawn grey in its place: the model's output"):
        assert dv.export.webp(trace, size=64)
    with pytest.raises(ValueError, match="the model's output is NaN there"):
        dv.export.png(trace, step=2)
