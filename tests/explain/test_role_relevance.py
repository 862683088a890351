"""Relevance by word role under sampling schemes: the sums behind it, its interval, and bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from diffusers import DPMSolverMultistepScheduler

from diffvis_widget import explain
from diffvis_widget.explain import RoleRelevance, relevance_by_role
from tests import pipelines

PROMPTS = ["a red circle", "blue water"]
ROLES = [{"red": "colour", "circle": "object"}, {"water": "object"}]


def test_scores_are_sums_of_curves_by_role() -> None:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = DPMSolverMultistepScheduler(**pipelines.TRAIN_BETAS)
    reports: list[tuple[int, int]] = []
    result = relevance_by_role(
        pipe,
        PROMPTS,
        ROLES,
        ("uniform", "late"),
        seed=3,
        num_inference_steps=2,
        progress=lambda *at: reports.append(at),
    )
    assert (result.schedules, result.roles) == (["uniform", "late"], ["colour", "object"])
    assert result.scores.shape == (2, 2, 2)
    assert result.curves.shape == (2, 2, 2, 2)
    for row, schedule in enumerate(("uniform", "late")):
        single = explain.relevance(pipe, PROMPTS[0], seed=3, num_inference_steps=2, schedule=schedule, progress=False)
        texts = [word.text for word in single.trace.words]
        expected = [single.scores[texts.index("red")], single.scores[texts.index("circle")]]
        np.testing.assert_allclose(result.scores[row, 0], expected, rtol=1e-5)
        np.testing.assert_allclose(result.curves[row, 0, 1], single.scaled[:, texts.index("circle")], rtol=1e-5)
        assert np.isnan(result.scores[row, 1, 0])
    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_mean_and_interval() -> None:
    scores = np.array([[[1.0, 5.0], [3.0, np.nan], [5.0, np.nan]]], dtype=np.float32)
    result = RoleRelevance(["uniform"], ["a", "b"], np.stack([0.25 * scores, 0.75 * scores], axis=-1))
    np.testing.assert_allclose(result.mean, [[3, 5]])
    np.testing.assert_allclose(result.median, [[3, 5]])
    np.testing.assert_array_equal(result.interval, np.full((1, 2, 2), [-np.inf, np.inf]))  # of three prompts and of one
    assert result.highest.tolist() == [[2, 1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": "a red circle"}, "prompts must be a list"),
        ({"prompts": []}, "prompts must have one entry or more"),
        ({"roles": ROLES[:1]}, "2 prompts, 1 given"),
        ({"schedules": ["linear"]}, "schedules must be one of 'uniform', 'early', 'late', not 'linear'"),
    ],
)
def test_bad_input(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        relevance_by_role(pipelines.stable_diffusion(), **({"prompts": PROMPTS, "roles": ROLES} | arguments))


def test_a_word_that_is_not_in_its_prompt() -> None:
    with pytest.raises(KeyError, match="'square' is not in the prompt; its words are"):
        relevance_by_role(
            pipelines.stable_diffusion(),
            ["a red circle"],
            [{"square": "object"}],
            ["uniform"],
            num_inference_steps=1,
            progress=False,
        )
