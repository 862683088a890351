"""Measures of studies: the built-in ones against the functions and plain loops that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffvis_widget as dv
from diffvis_widget.studies.builtin_measures import made_meter
from diffvis_widget.studies.measures import check_measures

PROMPT = {
    "prompt": "a red circle above a blue square",
    "word": "red",
    "to": "blue",
    "roles": {"red": "colour", "circle": "object"},
}
STEPS = 3


def brightness(trace: dv.Trace) -> dict[str, Any]:
    return {"brightness": float(trace.image.mean()), "by_step": trace.frames("prediction").mean(axis=(1, 2, 3))}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    measures: Mapping[str, Any] = {
        "scores": {"concepts": ["red", "circle"]},
        "attention": {},
        "overlap": {},
        "relevance": {},
        "divergence": {"base": "uniform"},
        "decision": {"switch": [0, 1, 3]},
        "light": brightness,
    }
    study = dv.study(
        *(dv.load(), [PROMPT]),
        seeds=[7],
        measures=measures,
        conditions=["uniform", "early"],
        out=tmp_path_factory.mktemp("study") / "out",
        progress=False,
        keep_traces="full",
        num_inference_steps=STEPS,
    )
    assert study.failed == 0
    return study.table().to_pylist()


@pytest.fixture(scope="module")
def traces() -> dict[str, dv.Trace]:
    pipe = dv.load()
    return {
        schedule: dv.trace(pipe, PROMPT["prompt"], seed=7, num_inference_steps=STEPS, schedule=schedule, keep="layers")
        for schedule in ("uniform", "early")
    }


def test_rows_describe_their_run(rows: list[dict[str, Any]], traces: dict[str, dv.Trace]) -> None:
    for row, (condition, trace) in zip(rows, traces.items(), strict=True):
        assert (row["prompt"], row["seed"], row["condition"], row["error"]) == (PROMPT["prompt"], 7, condition, None)
        assert row["words"] == PROMPT["prompt"].split()
        assert row["roles"] == [None, "colour", "object", None, None, None, None]
        assert row["timesteps"] == trace.timesteps.tolist()
        assert row["fingerprint"] == trace.meta["fingerprint"]
        assert row["seconds"] > 0
        assert row["thumbnail"][:4] == b"RIFF"
        assert len(row["thumbnail"]) <= 5_000


def test_scores_are_those_of_concept_scores(rows: list[dict[str, Any]], traces: dict[str, dv.Trace]) -> None:
    for row, trace in zip(rows, traces.values(), strict=True):
        expected = dv.concept_scores(trace, ["red", "circle"])
        assert row["scores_concepts"] == ["red", "circle"]
        assert np.array_equal(np.float32(row["scores_cosine"]), expected.cosine.T)
        assert np.array_equal(np.float32(row["scores_share"]), expected.share.T)
        bands = np.stack([row["scores_null_low"], row["scores_null_high"]], axis=1)
        assert np.array_equal(np.float32(bands), expected.null_band)
        assert np.array_equal(np.float32(row["scores_emergence"]), expected.emergence, equal_nan=True)


def test_attention_and_overlap_are_what_plain_loops_give(
    rows: list[dict[str, Any]], traces: dict[str, dv.Trace]
) -> None:
    for row, trace in zip(rows, traces.values(), strict=True):
        words = [index for index, word in enumerate(trace.words) if word.kind == "word"]
        means: list[np.ndarray] = []
        for number, word in enumerate(words):
            maps = [trace.heat_map(word, step=step).astype(np.float64) for step in range(STEPS)]
            for step, heat_map in enumerate(maps):
                assert row["attention_mass"][number][step] == pytest.approx(heat_map.mean(), rel=1e-3)
                share = heat_map.ravel() / heat_map.sum()
                entropy = -sum(p * np.log(p) for p in share if p > 0) / np.log(heat_map.size)
                assert row["attention_entropy"][number][step] == pytest.approx(entropy, abs=1e-3)
            mean = np.mean(maps, axis=0)
            means.append(mean / mean.sum())
        for a, first in enumerate(means):
            for b, second in enumerate(means):
                expected = 1 - np.abs(first - second).sum() / 2
                assert row["overlap"][a][b] == pytest.approx(expected, abs=1e-3)


def test_relevance_is_that_of_explain(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        expected = dv.explain.relevance(
            *(dv.load(), PROMPT["prompt"]),
            seed=7,
            num_inference_steps=STEPS,
            schedule=row["condition"],
            progress=False,
        )
        words = [index for index, word in enumerate(expected.trace.words) if word.kind == "word"]
        assert np.allclose(row["relevance_scaled"], expected.scaled[:, words].T, atol=1e-6)
        assert np.allclose(row["relevance_raw"], expected.raw[:, words].T, rtol=1e-5)


def test_divergence_is_that_of_compare(rows: list[dict[str, Any]], traces: dict[str, dv.Trace]) -> None:
    assert rows[0]["divergence_distance"] == [0.0] * STEPS
    expected = dv.compare(traces["uniform"], traces["early"])
    assert np.allclose(rows[1]["divergence_distance"], expected.distance, rtol=1e-5)
    assert rows[1]["divergence_image"] == pytest.approx(expected.image_difference)


def test_decision_is_that_of_decision_curve(rows: list[dict[str, Any]]) -> None:
    curve = dv.decision_curve(
        *(dv.load(), PROMPT["prompt"], "red", "blue"), steps=STEPS, seeds=[7], switch=[0, 1, 3], progress=False
    )
    assert np.array_equal(rows[0]["decision_step"], curve.decision, equal_nan=True)
    assert np.allclose(rows[0]["decision_share"], curve.share[0], atol=1e-6)
    assert rows[0]["decision_switch"] == [0, 1, 3]
    assert rows[0]["decision_concepts"] == ["red", "blue"]
    assert rows[1]["decision_step"] is rows[1]["decision_share"] is None  # it has another schedule


def test_a_function_of_the_user_is_a_measure(rows: list[dict[str, Any]], traces: dict[str, dv.Trace]) -> None:
    for row, trace in zip(rows, traces.values(), strict=True):
        expected = brightness(trace)
        assert row["brightness"] == expected["brightness"]
        assert row["by_step"] == expected["by_step"].tolist()


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        ("scores", "must be a list"),
        (["score"], "did you mean 'scores'"),
        (["scores", "scores"], "different names"),
        ({"scores": {"concept": ["red"]}}, "did you mean 'concepts'"),
        ({"scores": 3}, "options of scores must be a dictionary"),
        (["no_such_module:function"], "must be an import path"),
        (["math:no_such_function"], "must be an import path"),
        (["math:pi"], "must be a function of a Trace"),
        ([lambda trace, other: {}], "must take one argument"),
    ],
    ids=["text", "name", "twice", "option", "options", "module", "function", "number", "arguments"],
)
def test_wrong_measures_are_refused_before_the_run(measures: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        check_measures(measures)


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda trace: 3, "must return a dictionary"),
        (lambda trace: {"seed": 3}, "rename it"),
        (lambda trace: {"x": object()}, "must hold a number"),
        (lambda trace: 1 / 0, "the measure light failed: ZeroDivisionError"),
    ],
    ids=["number", "own column", "object", "error"],
)
def test_a_measure_that_fails_is_refused_and_nothing_is_written(tmp_path: Path, measure: Any, message: str) -> None:
    out = tmp_path / "study"
    with pytest.raises((ValueError, RuntimeError), match=message):
        dv.study(None, ["a star"], measures={"light": measure}, out=out, progress=False, num_inference_steps=1)
    assert not list(out.rglob("*"))


def test_the_import_path_of_a_function_is_a_measure() -> None:
    (measure,) = check_measures([f"{brightness.__module__}:brightness"])
    assert (measure.name, measure.function) == ("brightness", brightness)


def test_a_class_of_meters_is_made_once() -> None:
    class Meter:
        label = "a class has this too"

        def scores(self, frames: Any, concepts: Any) -> Any:
            raise NotImplementedError

    meter = made_meter(Meter)
    assert isinstance(meter, Meter)
    assert made_meter(Meter) is meter
    assert made_meter(meter) is meter
