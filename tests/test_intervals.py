"""Intervals hold the truth in 93 % of simulated studies or more, of any distribution, from the first n that has one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diffvis_widget import DecisionCurve
from diffvis_widget.explain import RoleRelevance
from diffvis_widget.explain.rise import estimate
from diffvis_widget.intervals import (
    UNBOUNDED,
    bootstrap_mean,
    holm,
    mean_interval,
    median_interval,
    proportion_interval,
)

STUDIES = 2000
LEAST = 0.93


def generator(*names: object) -> np.random.Generator:
    return np.random.default_rng(list("".join(map(str, names)).encode()))


def values(kind: str, studies: int, n: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Values around 12 (studies, n), and the median of their distribution."""
    if kind == "normal":
        return rng.normal(12, 1.5, (studies, n)), 12
    if kind == "skewed":
        return 10 + rng.lognormal(0, 1, (studies, n)), 11
    if kind == "heavy tails":
        return 12 + rng.standard_t(1, (studies, n)), 12
    if kind == "few steps":  # whole steps, most of them equal
        return rng.choice([11.0, 12.0, 13.0], (studies, n), p=[0.2, 0.6, 0.2]), 12
    return rng.choice([10.0, 14.0], (studies, n), p=[0.45, 0.55]), 14  # two steps


KINDS = ("normal", "skewed", "heavy tails", "few steps", "two steps")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [5, 6, 8, 12])
def test_the_interval_of_a_median_holds_it(kind: str, n: int) -> None:
    drawn, median = values(kind, STUDIES, n, generator(kind, n))
    ends = np.array([median_interval(row) for row in drawn])
    assert np.isfinite(ends).all()
    assert ((ends[:, 0] <= median) & (median <= ends[:, 1])).mean() >= LEAST


def test_four_values_bound_no_median() -> None:
    """All four lie on one side of the median in 2 of 16 studies, so that their range holds it in 87.5 %."""
    assert median_interval([1, 2, 3, 4]) == UNBOUNDED
    assert median_interval([1, 2, 3, 4, np.nan]) == UNBOUNDED
    drawn, median = values("normal", 20_000, 4, generator("four"))
    inside = (drawn.min(axis=1) <= median) & (median <= drawn.max(axis=1))
    assert inside.mean() == pytest.approx(0.875, abs=0.01)


def test_the_ends_are_the_order_statistics_of_the_sign_test() -> None:
    for n in range(6, 40):
        low, high = median_interval(np.arange(n))
        rank = int(low) + 1
        tails = [sum(math.comb(n, k) for k in range(end)) / 2**n for end in (rank, rank + 1)]
        assert tails[0] <= 0.025 < tails[1]
        assert high == n - rank


BOUNDED = {
    "normal": lambda rng, shape: (np.clip(rng.normal(0.5, 0.1, shape), 0, 1), 0.5),
    "skewed": lambda rng, shape: (rng.beta(0.5, 2, shape), 0.2),
    "rare": lambda rng, shape: ((rng.random(shape) < 0.1).astype(float), 0.1),
    "even": lambda rng, shape: ((rng.random(shape) < 0.5).astype(float), 0.5),
    "steps": lambda rng, shape: (rng.choice([0, 0.5, 1], shape, p=[0.8, 0.1, 0.1]), 0.15),
}


@pytest.mark.parametrize("kind", BOUNDED)
@pytest.mark.parametrize("n", [2, 5, 12])
def test_the_interval_of_a_bounded_mean_holds_it(kind: str, n: int) -> None:
    drawn, mean = BOUNDED[kind](generator(kind, n), (n, STUDIES))
    ends = mean_interval(drawn, 0, 1)
    assert ((ends[:, 0] <= mean) & (mean <= ends[:, 1])).mean() >= LEAST


def test_the_interval_of_a_weighted_mean_holds_it_for_scenes_of_several_words() -> None:
    """The words of a scene depend on each other, and scenes of two words differ from those of one."""
    rng, held = generator("scenes"), 0
    for _ in range(400):
        counts = rng.integers(1, 3, 10)
        scenes = rng.beta(1, np.where(counts == 1, 1, 3))  # means 1/2 and 1/4
        low, high = mean_interval(scenes, 0, 1, counts)
        held += low <= (1 / 2 + 2 / 4) / 3 <= high
    assert held >= LEAST * 400


def test_of_values_0_and_1_the_bounded_mean_is_clopper_and_pearsons() -> None:
    for right in range(7):
        row = [1.0] * right + [0.0] * (6 - right)
        np.testing.assert_allclose(mean_interval(row, 0, 1), proportion_interval(right, 6), atol=0.015)


def test_a_value_outside_its_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="between the bounds 0 and 1; they are"):
        mean_interval([0.5, 3], 0, 1)


def test_without_values_a_mean_is_anywhere_between_its_bounds() -> None:
    assert mean_interval(np.zeros((0, 2)), -1, 1).tolist() == [[-1, 1], [-1, 1]]


@pytest.mark.parametrize("total", [1, 2, 5, 20, 100])
def test_the_interval_of_a_proportion_holds_every_proportion(total: int) -> None:
    """The coverage itself, not a simulation, for proportions from 0.1 % to 99.9 %."""
    ends = np.array([proportion_interval(right, total) for right in range(total + 1)])
    for share in np.linspace(0.001, 0.999, 333):
        chances = [math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(total + 1)]
        assert np.dot(chances, (ends[:, 0] <= share) & (share <= ends[:, 1])) >= 0.95 - 1e-9


def test_a_proportion_of_the_textbook() -> None:
    assert proportion_interval(8, 10) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    assert proportion_interval(1592, 1592)[0] == pytest.approx(0.025 ** (1 / 1592), abs=1e-6)


def curve_of(steps: np.ndarray, sharpness: float = 3.0) -> DecisionCurve:
    """Seeds whose share rises from 0 to 1 at these steps."""
    points = np.arange(31)
    with np.errstate(over="ignore"):
        share = (1 / (1 + np.exp(-(points[None] - steps[:, None]) * sharpness))).astype(np.float32)
    cosine = np.zeros((*share.shape, 2), np.float32)
    return DecisionCurve("", "", "red", "blue", 30, points, np.arange(len(steps)), ["red", "blue"], cosine, share)


@pytest.mark.parametrize("kind", ["normal", "skewed", "few steps"])
@pytest.mark.parametrize("seeds", [5, 8])
def test_a_decision_of_five_seeds_has_an_interval_that_holds(kind: str, seeds: int) -> None:
    drawn, median = values(kind, 500, seeds, generator("decision", kind, seeds))
    ends = np.array([curve_of(row).interval for row in np.clip(drawn, 1, 29)])
    held = (ends[:, 0] <= median + 1e-3) & (median - 1e-3 <= ends[:, 1])
    assert held.mean() >= LEAST


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_band_of_a_decision_curve_holds_where_shares_jump_from_0_to_1(seeds: int) -> None:
    """The steepest share, which is 0 or 1 at nearly every step: the mean over all seeds is a distribution function."""
    rng = generator("band", seeds)
    bands = np.stack([curve_of(rng.uniform(5, 25, seeds), 200).band for _ in range(200)])
    truth = np.clip((np.arange(31) - 5) / 20, 0, 1)
    held = ((bands[..., 0] <= truth + 1e-3) & (truth - 1e-3 <= bands[..., 1])).mean(axis=0)
    assert held.min() >= LEAST


def test_fewer_than_five_seeds_say_how_many_agree() -> None:
    curve = curve_of(np.array([10.0, 10.5, 18.0]))
    assert curve.interval == UNBOUNDED
    assert curve.decision == pytest.approx(10.5, abs=0.01)
    assert curve.agreeing == 2


def test_seeds_without_a_decision_are_left_out_and_decide_when_they_are_most() -> None:
    rising = curve_of(np.array([9.0, 10.0, 11.0, 12.0, 13.0])).share
    flat = np.full((4, 31), 0.5, np.float32)

    def joined(*rows: np.ndarray) -> DecisionCurve:
        share, like = np.concatenate(rows), curve_of(np.array([1.0]))
        return DecisionCurve(
            "", "", "red", "blue", 30, like.switch, np.arange(len(share)), ["red", "blue"], share[..., None], share
        )

    assert joined(rising, flat).decision == pytest.approx(11, abs=0.01)
    assert joined(rising, flat).interval == pytest.approx((8.6, 13.4), abs=0.01)
    assert np.isnan(joined(rising[:4], flat).decision)
    assert joined(rising[:4], flat).interval == UNBOUNDED


@pytest.mark.parametrize("kind", KINDS)
def test_the_interval_of_relevance_by_role_holds_the_median_of_five_prompts(kind: str) -> None:
    drawn, median = values(kind, STUDIES, 5, generator("role", kind))
    curves = drawn.T[None, :, :, None].astype(np.float32)  # each study as a role
    ends = RoleRelevance(["uniform"], [str(study) for study in range(STUDIES)], curves).interval[0]
    assert ((ends[:, 0] <= median + 1e-5) & (median - 1e-5 <= ends[:, 1])).mean() >= LEAST


@pytest.mark.parametrize("keep", [None, 0.5])
def test_two_standard_errors_of_100_masks_hold_the_map(keep: float | None) -> None:
    """Of 100 masks, for similarities that are even, skewed, and 0 or 1; a pixel kept once has no error."""
    rng, pixels = generator("rise", keep), (3, STUDIES)
    drawn = rng.random((100, *pixels)) < 0.5
    alike = np.stack(
        [rng.random((100, STUDIES)), rng.beta(4, 1, (100, STUDIES)), rng.random((100, STUDIES)) < 0.3], axis=1
    )
    sums = np.stack([drawn.sum(axis=0), (drawn * alike).sum(axis=0), (drawn * alike**2).sum(axis=0)])
    mean, error = estimate(sums, 100, keep)
    held = np.abs(mean - np.array([[0.5], [0.8], [0.3]])) <= 2 * error
    assert (held.mean(axis=1) >= LEAST).all()
    assert np.isnan(estimate(np.array([[[1.0]], [[0.7]], [[0.49]]]), 4, keep)[1]).all()


DIFFERENCES = {
    "normal": lambda rng, shape: (rng.normal(0.3, 1, shape), 0.3),
    "exponential": lambda rng, shape: (rng.exponential(1, shape), 1),
    "heavy tails": lambda rng, shape: (rng.standard_t(3, shape), 0),
    "steps": lambda rng, shape: (rng.choice([-1.0, 0, 1], shape, p=[0.2, 0.6, 0.2]), 0),
    "very skewed": lambda rng, shape: (rng.lognormal(0, 1, shape), np.exp(0.5)),
}


@pytest.mark.parametrize("kind", DIFFERENCES)
@pytest.mark.parametrize("n", [12, 30])
def test_the_bootstrap_interval_of_a_mean_holds_it_and_its_p_value_agrees(kind: str, n: int) -> None:
    drawn, mean = DIFFERENCES[kind](generator("bootstrap", kind, n), (1000, n))
    results = np.array([bootstrap_mean(row - mean) for row in drawn])
    inside = (results[:, 0] <= 0) & (results[:, 1] >= 0)
    assert inside.mean() >= (0.9 if kind == "very skewed" else LEAST)
    assert (results[:, 2] > 0.05).mean() == pytest.approx(inside.mean(), abs=0.01)


def test_few_or_equal_differences_bound_no_mean() -> None:
    assert bootstrap_mean([1, 2, 3, 4, 5, 6, 7]) == (*UNBOUNDED, 1.0)
    assert bootstrap_mean([1.0] * 20) == (*UNBOUNDED, 1.0)
    assert bootstrap_mean([1, 2, 3, 4, 5, 6, 7, np.nan]) == (*UNBOUNDED, 1.0)


def test_holm_is_the_step_down_method() -> None:
    for seed in range(20):
        p = np.random.default_rng(seed).random(7) ** 3
        order = np.argsort(p)
        expected = np.empty(7)
        for rank, index in enumerate(order):
            expected[index] = min(1, max((7 - earlier) * p[order[earlier]] for earlier in range(rank + 1)))
        assert np.allclose(holm(p), expected)
    assert np.isnan(holm([np.nan, 0.02])).tolist() == [True, False]
    assert holm([np.nan, 0.02])[1] == 0.02
