"""Correlation over the steps of a run: against scipy, naive loops and numbers worked out by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy import stats

from diffvis_widget import explain, scenes
from diffvis_widget.explain.step_correlation import LEAST, adjusted_p, chance, correlate, correlation
from diffvis_widget.tracer import trace
from diffvis_widget.traces import ConceptScores, Trace
from tests.traces.build import make_trace

STEPS = 8


def scored(steps: int = STEPS, concepts: Any = ("red", "round"), cosine: Any = None) -> Trace:
    """The trace made by hand, with scores that are not measured."""
    made = make_trace(steps=steps)
    if cosine is None:
        cosine = np.random.default_rng(3).normal(size=(steps, len(concepts)))
    cosine = np.asarray(cosine, dtype=np.float32)
    rest = np.zeros((steps, 2), np.float32), np.zeros(len(concepts), np.float32)
    made.scores = ConceptScores(list(concepts), cosine, cosine, *rest, "by hand")
    return made


def walks(count: int, steps: int = 30) -> Any:
    return np.random.default_rng(0).normal(size=(count, steps)).cumsum(axis=1)


# -- the arithmetic ----------------------------------------------------------------------------------------------------


def test_rho_and_p_of_independent_steps_are_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(4, 12)), rng.normal(size=(3, 12))
    a[1] = np.round(a[1])  # ties
    b[2] = a[0] ** 3  # the same ranks
    rho, p, _ = correlate(a.astype(np.float32), b.astype(np.float32), test="independent")
    for i, row in enumerate(a.astype(np.float32)):
        for j, other in enumerate(b.astype(np.float32)):
            expected: Any = stats.spearmanr(row, other)
            assert rho[i, j] == pytest.approx(expected.statistic, abs=1e-12)
            assert p[i, j] == pytest.approx(expected.pvalue, abs=1e-9)


def test_the_effective_number_of_steps_by_a_naive_loop() -> None:
    curves = walks(4, 20)
    rho, p, effective = correlate(curves[:2], curves[2:])
    for i in range(2):
        for j in range(2):
            x, y = (stats.rankdata(row) - 10.5 for row in (curves[i], curves[2 + j]))
            total = 1 / 20
            for lag in range(1, 20):
                both = [sum(r[k] * r[k + lag] for k in range(20 - lag)) / sum(r * r) for r in (x, y)]
                total += 2 / 20 * (20 - lag) / 20 * both[0] * both[1]
            expected = min(1 / total, 20) if total > 0 else 20
            assert effective[i, j] == pytest.approx(expected)
            freedom = max(expected - 2, 1)
            t = abs(rho[i, j]) * np.sqrt(freedom / (1 - rho[i, j] ** 2))
            assert p[i, j] == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-6)


def test_the_tail_of_t_holds_far_out_and_for_broken_degrees_of_freedom() -> None:
    rho = np.array([0, 0.1, 0.5, 0.9, 0.999, 1.0, -0.5])
    for freedom in (1.0, 1.7, 5.3, 28, 98):
        with np.errstate(divide="ignore"):
            t = np.abs(rho) * np.sqrt(freedom / (1 - rho**2))
        expected = 2 * stats.t.sf(t, freedom)
        np.testing.assert_allclose(chance(rho, np.full(7, freedom)), expected, rtol=1e-7, atol=1e-15)


def test_unrelated_walks_are_found_one_time_in_twenty_and_not_every_other_time() -> None:
    curves = walks(60)
    pairs = np.triu_indices(60, 1)
    significant = {
        "effective": (correlate(curves, curves, test="effective")[1][pairs] < 0.05).mean(),
        "independent": (correlate(curves, curves, test="independent")[1][pairs] < 0.05).mean(),
    }
    assert 0.02 < significant["effective"] < 0.09
    assert significant["independent"] > 0.4


def test_changes_are_free_of_a_common_trend() -> None:
    rng = np.random.default_rng(4)
    trend = np.arange(30) * 3
    a, b = ((trend + rng.normal(size=(20, 30))).astype(np.float32) for _ in range(2))
    levels, changes = (correlate(a, b, of=of)[0] for of in ("levels", "changes"))
    assert levels.min() > 0.9
    assert np.abs(changes.mean()) < 0.1


def test_corrections_are_those_of_their_authors() -> None:
    p = np.array([0.01, 0.04, np.nan, 0.03, 0.005, 0.9])
    # by hand: 5 tests; Holm multiplies the k-th smallest by 6 - k and never falls
    holm = adjusted_p(p, "holm")
    np.testing.assert_allclose(holm, [0.04, 0.09, np.nan, 0.09, 0.025, 0.9])
    finite = np.isfinite(p)
    adjusted = adjusted_p(p, "benjamini-hochberg")
    np.testing.assert_allclose(adjusted[finite], stats.false_discovery_control(p[finite]))
    assert np.isnan(adjusted[2])


# -- a run -------------------------------------------------------------------------------------------------------------


def test_attention_is_the_mean_of_the_heat_map() -> None:
    made = scored()
    result = correlation(made)
    assert result.words == ["Red", "circle", ",", "red", "square"]
    assert result.measures == ["attention"]
    assert result.curves.shape == (1, 5, STEPS)
    assert result.rho.shape == result.p.shape == result.p_adjusted.shape == result.effective.shape == (1, 5, 2)
    assert result.curves[0, 1, 3] == pytest.approx(made.heat_map("circle", step=3).mean(), rel=1e-5)
    naive: Any = stats.spearmanr([made.heat_map(5, step=k).mean() for k in range(STEPS)], result.scores[:, 1])
    assert result.rho[0, 4, 1] == pytest.approx(naive.statistic)
    np.testing.assert_allclose(result.p_adjusted, adjusted_p(result.p, "holm"))


def test_a_text_means_all_its_occurrences_and_an_index_one() -> None:
    made = scored()
    result = correlation(made, ["round"], words=["red", 1, "circle"])
    assert result.words == ["red", "Red", "circle"]
    np.testing.assert_allclose(result.curves[0, 0, 2], made.heat_map("red", step=2).mean(), rtol=1e-5)
    np.testing.assert_allclose(result.curves[0, 1, 2], made.heat_map(1, step=2).mean(), rtol=1e-5)
    np.testing.assert_array_equal(result.scores[:, 0], made.scores.cosine[:, 1] if made.scores else None)


def test_a_score_that_never_changes_has_no_correlation_and_counts_as_no_test() -> None:
    cosine = np.stack([np.linspace(0, 1, STEPS), np.ones(STEPS)], axis=1)
    result = correlation(scored(cosine=cosine))
    assert np.isnan(result.rho[..., 1]).all()
    assert np.isnan(result.p_adjusted[..., 1]).all()
    assert "corrected for 5 tests after Holm" in result.table()
    assert "| – |" in result.table()


def test_the_table_stars_what_is_not_chance() -> None:
    made = scored(20)
    mass = np.array([made.heat_map("circle", step=k).mean() for k in range(20)])
    made = scored(20, ("follows", "opposes"), np.stack([mass, -mass], axis=1))
    table = correlation(made, words=["circle", "square"], adjust="benjamini-hochberg").table()
    assert "| attention | follows | opposes |" in table
    assert "| circle | 1.00* | -1.00* |" in table
    assert "Benjamini and Hochberg" in table
    square = next(line for line in table.splitlines() if line.startswith("| square"))
    assert "*" not in square


def test_relevance_of_the_run_is_correlated_too() -> None:
    pipe = scenes.load()
    run = trace(pipe, "a red circle", seed=1, num_inference_steps=LEAST)
    relevance = explain.relevance_of(pipe, run, progress=False)
    result = correlation(run, ["circle", "red"], relevance=relevance)
    assert result.measures == ["attention", "relevance"]
    assert result.rho.shape == (2, 3, 2)
    raw = relevance.raw[:, 1:4]  # <start> a red circle
    np.testing.assert_allclose(result.curves[1].T, raw / raw.sum(axis=1, keepdims=True), rtol=1e-5)
    assert np.isfinite(result.rho).all()
    other = trace(pipe, "a red circle", seed=2, num_inference_steps=LEAST)
    with pytest.raises(ValueError, match=r"relevance is of another run .* seed 1"):
        correlation(other, ["circle"], relevance=relevance)
    with pytest.raises(ValueError, match="relevance must be what"):
        correlation(run, ["circle"], relevance=relevance.scaled)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"words": ["cat"]}, KeyError, "'cat' is not in the prompt; its words are: 'Red', 'circle'"),
        ({"words": ["lost"]}, KeyError, "cut off"),
        ({"words": [99]}, IndexError, "out of range"),
        ({"words": "red"}, ValueError, r"write \['red'\]"),
        ({"words": []}, ValueError, "words is empty"),
        ({"concepts": []}, ValueError, "concepts is empty"),
        ({"concepts": "red"}, ValueError, "must be a list"),
        ({"concepts": ["blue"]}, ValueError, "meter=None is for runs of the built-in"),
        ({"of": "shapes"}, ValueError, "of must be one of 'levels', 'changes'"),
        ({"test": "exact"}, ValueError, "test must be one of"),
        ({"adjust": "none"}, ValueError, "adjust must be one of"),
    ],
)
def test_what_cannot_be_correlated_is_said(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        correlation(scored(), **options)


def test_runs_that_cannot_be_correlated_are_refused() -> None:
    with pytest.raises(ValueError, match=f"trace has 3 steps; the correlation of levels needs at least {LEAST}"):
        correlation(scored(3))
    with pytest.raises(ValueError, match=f"changes needs at least {LEAST + 1}"):
        correlation(scored(LEAST), of="changes")
    with pytest.raises(ValueError, match=r"those of trace\.scores, and there are none"):
        correlation(make_trace(steps=STEPS))
    with pytest.raises(ValueError, match="no word maps"):
        correlation(make_trace(steps=STEPS, layers=[]), ["red"])


def test_what_is_found_cannot_be_changed_by_accident() -> None:
    result: Any = correlation(scored())
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.rho = None
