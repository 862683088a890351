"""Two runs compared: against numbers worked out by hand on made traces, and on real runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diffvis_widget import intervene
from diffvis_widget.files import open_trace
from diffvis_widget.tracer import trace
from diffvis_widget.traces import Layer, Record, Step, Trace, Word
from diffvis_widget.traces.comparison import DIVERGED, WordPair, compare
from tests import pipelines
from tests.tiny_parts import stirred


def made(
    predictions: Any, words: list[str], maps: Any = None, sigmas: Any = None, image: Any = None, scheduler: str = ""
) -> Trace:
    """A trace of predictions (T, C, h, w), with maps (T, words, 2, 2)."""
    predictions = np.asarray(predictions, dtype=np.float32)
    count = len(predictions)
    levels = np.linspace(10, 1, count) if sigmas is None else sigmas
    layer = Layer("one", "cross", 1, (2, 2), True)
    return Trace(
        prompt=" ".join(words),
        negative_prompt=None,
        words=[Word(text, (index,), "word") for index, text in enumerate(words)],
        layers=[layer],
        keep="layers",
        meta={"scheduler": scheduler},
        image=np.zeros((4, 4, 3), np.uint8) if image is None else image,
        records=[
            Record(
                step=Step(step, 1000.0 - step, float(levels[step])),
                latents=predictions[step],
                result=predictions[step],
                prediction=predictions[step],
                guidance=None,
                visible=1.0,
                maps=(
                    np.ones((1, len(words), 2, 2), np.float16)
                    if maps is None
                    else np.asarray(maps[step], np.float16)[None],
                ),
            )
            for step in range(count)
        ],
    )


FLAT = np.array([[1.0, -1.0], [-1.0, 1.0]])[None]  # one channel, spread 1


def test_distance_and_parting_by_hand() -> None:
    first = made([FLAT] * 5, ["a"])
    # the difference is the same at every place: its root mean square is its size
    second = made([FLAT + by for by in (0.9, 0.05, 0.6, 0.7, 0.8)], ["a"])
    comparison = compare(first, second)
    np.testing.assert_allclose(comparison.distance, [0.9, 0.05, 0.6, 0.7, 0.8], rtol=1e-5)
    assert comparison.threshold == DIVERGED == 0.5
    assert comparison.divergence_step == 2  # apart at first, but together again
    assert comparison.steps.tolist() == [[step, step] for step in range(5)]
    assert compare(first, made([FLAT + by for by in (0.9, 0.6, 0.6, 0.6, 0.45)], ["a"])).divergence_step is None
    assert compare(first, first).divergence_step is None
    assert compare(first, made([FLAT + 1] * 5, ["a"])).divergence_step == 0


def test_words_are_aligned_by_a_diff() -> None:
    first = made([FLAT], ["a", "red", "circle", "on", "grass"])
    second = made([FLAT], ["A", "big", "blue", "circle"])
    assert compare(first, second).words == [
        WordPair(0, 0, "same"),
        WordPair(1, 1, "replaced"),
        WordPair(None, 2, "added"),
        WordPair(2, 3, "same"),
        WordPair(3, None, "removed"),
        WordPair(4, None, "removed"),
    ]
    assert [pair.change for pair in compare(second, first).words].count("removed") == 1


def test_maps_by_hand() -> None:
    left, right = [[1.0, 0], [1.0, 0]], [[0, 0.5], [0, 0.5]]
    first = made([FLAT], ["a", "red"], maps=[[left, left]])
    second = made([FLAT], ["a", "blue"], maps=[[left, right]])
    comparison = compare(first, second)
    np.testing.assert_allclose(comparison.maps, [[0.0, 1.0]])  # nowhere the same place, whatever the size
    np.testing.assert_allclose(comparison.map_difference(1, 0), [[-1, 0.5], [-1, 0.5]])
    assert comparison.map_difference(1, size=(4, 4)).shape == (4, 4)
    added = compare(made([FLAT], ["a"]), made([FLAT], ["a", "b"]))
    assert np.isnan(added.maps[0, 1])
    with pytest.raises(ValueError, match="one prompt alone"):
        added.map_difference(1)
    with pytest.raises(IndexError, match="pairs 0 to 1"):
        added.map_difference(2)
    with pytest.raises(IndexError, match="steps 0 to 0"):
        added.map_difference(0, step=1)


def test_by_noise_level() -> None:
    first = made([FLAT, FLAT + 1, FLAT + 2], ["a"], sigmas=[10.0, 3.0, 1.0])
    second = made([FLAT, FLAT + 1, FLAT + 1, FLAT + 2], ["a"], sigmas=[9.0, 3.5, 2.8, 1.0])
    comparison = compare(first, second, align="noise")
    assert comparison.steps.tolist() == [[0, 0], [1, 2], [2, 3]]
    np.testing.assert_allclose(comparison.distance, 0, atol=1e-6)


def test_images() -> None:
    white = np.full((4, 4, 3), 255, np.uint8)
    comparison = compare(made([FLAT], ["a"]), made([FLAT], ["a"], image=white))
    assert comparison.image is not None
    assert comparison.image.shape == (4, 4)
    assert comparison.image_difference == pytest.approx(1.0)
    other = compare(made([FLAT], ["a"]), made([FLAT], ["a"], image=white[:2]))
    assert other.image is None
    assert other.image_difference is None


def test_what_cannot_be_compared() -> None:
    first = made([FLAT] * 2, ["a"])
    with pytest.raises(ValueError, match=r"2 and 1 steps.*align=\"noise\""):
        compare(first, made([FLAT], ["a"]))
    with pytest.raises(ValueError, match="same height and width"):
        compare(first, made(np.zeros((2, 1, 4, 4)), ["a"]))
    with pytest.raises(ValueError, match="flow matching"):
        compare(first, made([FLAT] * 2, ["a"], scheduler="FlowMatchEulerDiscreteScheduler"), align="noise")
    with pytest.raises(ValueError, match="one of 'index', 'noise', not 'time'"):
        compare(first, first, align="time")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="trace_b must be a Trace"):
        compare(first, "run.safetensors")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no finished step"):
        compare(first, made(np.zeros((0, 1, 2, 2)), ["a"]))


def test_real_runs_part_where_the_prompt_is_switched(tmp_path: Any) -> None:
    pipe = pipelines.stable_diffusion()
    stirred(pipe.unet)
    first = trace(pipe, "a red circle", seed=1, num_inference_steps=6)
    change = [intervene.switch("a very old house", 3)]
    second = trace(pipe, "a red circle", seed=1, num_inference_steps=6, interventions=change)
    paths = [trace.save(tmp_path / f"{index}.safetensors") for index, trace in enumerate((first, second))]
    comparison = compare(open_trace(paths[0]), open_trace(paths[1]))
    assert (comparison.distance[:3] == 0).all()
    assert comparison.divergence_step is None or comparison.divergence_step >= 3
    assert (comparison.distance[3:] > 0).all()
    assert [pair.change for pair in comparison.words if pair.a is None] == ["added"] * 3
    live = compare(first, second)
    np.testing.assert_array_equal(live.maps, comparison.maps)
