"""Rows of a study that run together: equal to those that run alone, within rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

import diffvis_widget as dv
from diffvis_widget.intervene import weight
from diffvis_widget.studies.manifest import read
from diffvis_widget.studies.parts import PartWriter, part_files


def test_rows_of_a_batch_equal_those_that_run_alone_within_rounding(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {
        "measures": ["attention", "divergence"],
        "conditions": {"plain": {}, "early": {"schedule": "early"}, "doubled": {"interventions": [weight("red", 2.0)]}},
        "seeds": 4,
        "progress": False,
        "num_inference_steps": 2,
    }
    alone = dv.study(None, ["a red circle"], out=tmp_path / "alone", **arguments)
    calls: list[int] = []
    pipe: Any = dv.load()
    hook = pipe.unet.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    together = dv.study(pipe, ["a red circle"], out=tmp_path / "batch", batch=4, **arguments)
    hook.remove()
    assert max(calls) == 8  # four images, each with and without the prompt
    both = [study.table().drop(["seconds", "thumbnail"]).to_pylist() for study in (alone, together)]
    for expected, row in zip(*both, strict=True):
        for name in ("attention_mass", "attention_entropy", "divergence_distance"):
            np.testing.assert_allclose(row.pop(name), expected.pop(name), atol=1e-4)
        np.testing.assert_allclose(row.pop("divergence_image"), expected.pop("divergence_image"), atol=1e-2)
        assert row == expected
    with pytest.raises(ValueError, match=r"other batch \(4 there, 1 now\)"):
        dv.study(pipe, ["a red circle"], out=tmp_path / "batch", **arguments)


def test_a_row_of_a_batch_is_the_same_whichever_rows_are_missing(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"measures": ["attention"], "seeds": 5, "batch": 3, "progress": False}
    arguments |= {"num_inference_steps": 2, "out": tmp_path / "study"}
    study = dv.study(None, ["a red circle"], **arguments)
    before = study.table().drop(["seconds"])
    manifest, _ = read(study.folder)
    rows = [row for row in study.table().to_pylist() if row["row"] not in (1, 4)]
    for part in part_files(study.folder):
        part.unlink()
    writer = PartWriter(study.folder, manifest.columns, manifest.study)
    for row in rows:
        writer.add(row)
    writer.flush()
    assert dv.study(None, ["a red circle"], **arguments).table().drop(["seconds"]).equals(before)


def test_a_pipeline_that_cannot_run_a_batch_runs_its_rows_alone(tmp_path: Path) -> None:
    class OneAtATime(StableDiffusionPipeline):
        def __call__(self, prompt: Any = None, **arguments: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            if isinstance(prompt, list):
                raise ValueError("one prompt, please")
            return super().__call__(prompt, **arguments)

    loaded: Any = dv.load()
    pipe = OneAtATime(**loaded.components)
    arguments: dict[str, Any] = {"measures": ["attention"], "seeds": 3, "progress": False, "num_inference_steps": 2}
    study = dv.study(pipe, ["a red circle"], batch=3, out=tmp_path / "study", **arguments)
    assert study.is_complete
    assert study.failed == 0


@pytest.mark.parametrize("batch", [0, 1.5, "two", True])
def test_a_batch_is_a_number_of_rows(tmp_path: Path, batch: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="batch"):
        dv.study(None, ["a red circle"], measures=[], out=tmp_path / "study", batch=batch)
