"""The decision curve: the same images as runs made one by one, kept, resumed, stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffvis_widget import intervene, scenes
from diffvis_widget.concepts import ConceptMeter
from diffvis_widget.intervene import DecisionCurve
from diffvis_widget.intervene.decision_runs import _images
from diffvis_widget.tracer import trace

PROMPT, OTHER = "a red circle", "a blue circle"


@pytest.fixture(scope="module")
def pipe() -> Any:
    return scenes.load()


@pytest.fixture(scope="module")
def meter() -> ConceptMeter:
    return ConceptMeter()


def curve(pipe: Any, meter: ConceptMeter, **more: Any) -> DecisionCurve:
    arguments = {"steps": 12, "seeds": 2, "switch": [0, 6, 12], "meter": meter, "progress": False, **more}
    return intervene.decision_curve(pipe, PROMPT, "red", "blue", **arguments)


def test_the_images_are_those_of_runs_made_one_by_one(pipe: Any) -> None:
    evaluated: list[int] = []
    handle = pipe.unet.conv_in.register_forward_pre_hook(lambda module, args: evaluated.append(len(args[0])))
    together = _images(pipe, PROMPT, OTHER, 5, 4, [0, 1, 3, 4], {})
    handle.remove()
    # both halves of: the switched ones, and one for all that were not switched yet
    assert evaluated == [4, 6, 6, 8]
    for step, image in zip([0, 1, 3, 4], together, strict=True):
        switch = [intervene.switch(OTHER, step)]
        alone = trace(pipe, PROMPT, seed=5, num_inference_steps=4, interventions=switch).image
        assert np.abs(alone.astype(int) - image).max() <= 2
    assert not np.array_equal(together[0], together[3])


def test_a_curve_is_kept_stopped_and_resumed(pipe: Any, meter: ConceptMeter, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "curve.json"

    def stop(done: int, total: int) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    part = curve(pipe, meter, path=path, progress=stop)
    assert not part.complete
    assert np.isfinite(part.share[0]).all()
    assert np.isnan(part.share[1]).all()
    seen: list[tuple[int, int]] = []
    whole = curve(pipe, meter, path=path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 6), (6, 6)]
    assert whole.complete
    assert np.array_equal(whole.cosine[0], part.cosine[0])
    np.testing.assert_allclose(whole.cosine, curve(pipe, meter).cosine, atol=1e-6)
    assert whole.share[:, 0].max() < 0.5 < whole.share[:, -1].min()
    assert 0 <= whole.decision <= 12
    assert (whole.band[:, 0] <= whole.mean + 1e-6).all()
    with pytest.raises(ValueError, match=r"another curve.*steps"):
        curve(pipe, meter, path=path, steps=13)
    path.write_text("[]")
    with pytest.raises(ValueError, match="holds no decision curve"):
        curve(pipe, meter, path=path)
    assert path.read_text() == "[]"


def test_where_a_curve_crosses() -> None:
    def made(*rows: list[float]) -> DecisionCurve:
        share = np.array(rows, dtype=np.float32)
        points, seeds = np.array([0, 2, 4, 8]), np.arange(len(rows))
        return DecisionCurve("", "", "red", "blue", 8, points, seeds, ["red", "blue"], share[..., None], share)

    assert made([0.0, 0.0, 1.0, 1.0]).decision == 3.0
    assert made([0.0, 1.0, 0.25, 1.0]).decision == pytest.approx(4 + 4 / 3)  # it holds only from there on
    assert np.isnan(made([0.5, 0.5, 0.5, 0.6]).decision)  # the meter sees no difference between the ends
    assert made(*[[0.0, 0.0, 1.0, 1.0]] * 4).interval == (-np.inf, np.inf)
    assert made(*[[0.0, 0.0, 1.0, 1.0]] * 5).interval == (3.0, 3.0)
    np.testing.assert_allclose(made([0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]).decisions, [3.0, 1.0])


def test_what_cannot_be_asked(pipe: Any, meter: ConceptMeter) -> None:
    with pytest.raises(KeyError, match="'a', 'red', 'circle'"):
        intervene.decision_curve(pipe, PROMPT, "green", "blue", meter=meter)
    with pytest.raises(ValueError, match="to must differ from word"):
        intervene.decision_curve(pipe, PROMPT, "red", "red", meter=meter)
    for wrong in (
        {"switch": [2, 1]},
        {"switch": [0, 13]},
        {"switch": []},
        {"seeds": [1, 1]},
        {"seeds": 0},
        {"steps": 0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            curve(pipe, meter, **wrong)
    with pytest.raises(TypeError, match="latents"):
        curve(pipe, meter, latents=None)
    with intervene.on(pipe, intervene.weight("red", 2.0)), pytest.raises(ValueError, match="other interventions"):
        curve(pipe, meter)
