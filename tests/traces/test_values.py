"""Results as Python objects: equality, hash, text, arrays, tables, copies and pickles."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest

import diffvis_widget as dv
from diffvis_widget.explain import GameResult, Relevance, RoleRelevance
from diffvis_widget.traces import Record, Step

MANY = 64


def trace() -> dv.Trace:
    latents = np.ones((4, 2, 2), np.float32)
    record = Record(Step(0, 999.0, 14.6), latents, latents, latents, None, 1.0, ())
    image = np.zeros((8, 8, 3), np.uint8)
    words = [dv.Word("a", (1,), "word"), dv.Word("circle", (2,), "word")]
    return dv.Trace(
        prompt="a circle", negative_prompt=None, words=words, layers=[], keep="layers", meta={}, records=[record],
        image=image,
    )  # fmt: skip


def curve(count: int, start: float = 0.0) -> np.ndarray:
    values = np.linspace(start, 1, count, dtype=np.float32)
    values[0] = np.nan
    return values


def results() -> dict[str, Any]:
    """A result of each class, some with NaN and large arrays."""
    pair = np.ones((1, 2), np.float32)
    cube = np.ones((1, MANY, MANY))
    square, long = np.ones((MANY, MANY), np.float32), curve(MANY)
    names = [f"word {index}" for index in range(MANY)]
    shares = np.tile(curve(5), (6, 1))
    return {
        "Saliency": dv.Saliency("df_cam", 0, square, square, 5, {"mid": square}),
        "ConceptScores": dv.ConceptScores(names, square, square, square[:, :2], long, "a meter"),
        "WordRelevance": dv.WordRelevance("uniform", long, square),
        "Relevance": Relevance(pair, pair, np.ones((1, 2, 4, 4), np.float32), trace()),
        "DecisionCurve": dv.DecisionCurve(
            "p" * 5000, "q", "red", "blue", 4, np.arange(5), np.arange(6), ["red"], shares[..., None], shares
        ),
        "Comparison": dv.compare(trace(), trace()),
        "RoleRelevance": RoleRelevance(["uniform", "late"], ["object"], np.ones((2, 5, 1, MANY), np.float32)),
        "GameResult": GameResult({"mine": long}, {"mine": long}, (1.0, float("nan")), "ssim"),
        "StepCorrelation": dv.StepCorrelation(
            ["attention"], names, names, square[None], square, cube, cube, cube, cube, "levels", "effective", "holm"
        ),
    }  # fmt: skip


NAMES = list(results())
COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda value: pickle.loads(pickle.dumps(value))}


@pytest.mark.parametrize("name", NAMES)
def test_equal_results_are_equal_and_have_one_hash(name: str) -> None:
    first, second = results()[name], results()[name]
    assert first == second
    assert hash(first) == hash(second)
    assert len({first, second}) == 1
    assert first != "something else"
    assert first not in [other for other in results().values() if type(other) is not type(first)]


@pytest.mark.parametrize("name", NAMES)
def test_a_result_with_another_array_is_another_result(name: str) -> None:
    result = results()[name]
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        if isinstance(value, np.ndarray):
            assert dataclasses.replace(result, **{field.name: np.nan_to_num(value) + 1}) != result, field.name
            assert dataclasses.replace(result, **{field.name: value[:-1]}) != result, field.name


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", NAMES)
def test_copies_are_equal(name: str, how: str) -> None:
    result = results()[name]
    assert COPIES[how](result) == result


@pytest.mark.parametrize("name", NAMES)
def test_the_repr_is_short(name: str) -> None:
    text = repr(results()[name])
    assert text.startswith(f"{name}(")
    assert len(text) < 800


def test_arrays_of_results() -> None:
    saliency = results()["Saliency"]
    assert np.asarray(saliency) is saliency.map
    assert np.array(saliency) is not saliency.map
    assert np.asarray(saliency, np.float64).dtype == np.float64
    fields = {"ConceptScores": "cosine", "DecisionCurve": "share", "Comparison": "distance", "WordRelevance": "raw"}
    for name, field in fields.items():
        result = results()[name]
        np.testing.assert_array_equal(np.asarray(result), getattr(result, field))


@pytest.mark.parametrize("name", [name for name in NAMES if hasattr(results()[name], "to_pandas")])
def test_tables(name: str) -> None:
    pandas = pytest.importorskip("pandas")
    result = results()[name]
    frame = result.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) > 0
    if name == "ConceptScores":
        np.testing.assert_array_equal(frame["word 3"], result.cosine[:, 3])
    if name == "DecisionCurve":
        np.testing.assert_array_equal(frame.loc[2], result.share[:, 2])


def test_without_pandas_a_table_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        results()["ConceptScores"].to_pandas()


def test_traces_compare_by_content_on_request() -> None:
    first, second = trace(), trace()
    assert first != second
    assert first.equals(second)
    second.note("a note")
    assert not first.equals(second)
    assert not first.equals("a trace")
