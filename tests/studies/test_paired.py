"""Paired comparisons: pairs, means over seeds, one value a prompt, words by role, and corrected p-values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import diffvis_widget as dv
from diffvis_widget.intervals import bootstrap_mean, holm
from diffvis_widget.studies.paired import compare_conditions, correct_together

PROMPTS, SEEDS = 12, 3


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """A made-up table in which b is 1 above a, with noise of the prompt, and one failed row."""
    generator = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for prompt in range(PROMPTS):
        effect = 1 + generator.normal(0, 0.5)
        for seed in range(SEEDS):
            base = generator.normal(0, 5)
            for condition, extra in (("a", 0.0), ("b", effect)):
                mass = [[base + extra, base + extra + 2], [1.0, 3.0], [5.0, 5.0]]
                row = {"prompt": str(prompt), "seed": seed, "condition": condition, "mass": mass, "level": base + extra}
                rows.append({**row, "words": ["red", "circle", "blue"], "roles": ["colour", "object", "colour"]})
    rows[1]["level"] = None
    return rows


def test_differences_are_taken_within_pairs_and_averaged_over_seeds(rows: list[dict[str, Any]]) -> None:
    result = compare_conditions(pa.Table.from_pylist(rows), "a", "b", ["level"], None, "mean")
    values = {(row["prompt"], row["seed"], row["condition"]): row["level"] for row in rows}
    expected = []
    for prompt in map(str, range(PROMPTS)):
        pairs = [(values[prompt, seed, "a"], values[prompt, seed, "b"]) for seed in range(SEEDS)]
        expected.append(np.mean([b - a for a, b in pairs if b is not None]))
    assert np.allclose(result.differences[0], expected)
    assert result.mean[0] == pytest.approx(np.mean(expected))
    assert np.allclose([*result.interval[0], result.p[0]], bootstrap_mean(expected))
    assert result.interval[0, 0] < 1 < result.interval[0, 1]
    assert result.counts.tolist() == [PROMPTS]


@pytest.mark.parametrize(("reduce", "colour"), [("mean", 0.5), ("sum", 1.0), ("last", 0.5)])
def test_words_are_averaged_by_role_and_curves_reduced(rows: list[dict[str, Any]], reduce: Any, colour: float) -> None:
    result = compare_conditions(pa.Table.from_pylist(rows), "a", "b", ["mass"], "role", reduce)
    level = compare_conditions(pa.Table.from_pylist(rows), "a", "b", ["level"], None, "mean")
    assert result.names == ["mass: colour", "mass: object"]
    assert np.allclose(result.differences[0][1:], colour * level.differences[0][1:])
    assert np.allclose(result.differences[1], 0)
    assert np.isnan(result.p[1]), "equal differences are not tested"
    assert result.p_adjusted[0] == result.p[0], "and do not count among the tests"
    assert result.to_pandas().loc["mass: object", "mean"] == 0


def test_rounding_is_no_difference_and_few_prompts_are_not_tested(rows: list[dict[str, Any]]) -> None:
    third = np.float32(1 / 3)
    for number, row in enumerate(rows):
        row["share"] = float(np.nextafter(third, np.float32(number % 3)))
    result = compare_conditions(pa.Table.from_pylist(rows), "a", "b", ["share", "level"], None, "mean")
    assert result.mean[0] == 0
    assert np.isnan(result.p[0])
    assert result.p_adjusted[1] == result.p[1]
    few = [row for row in rows if int(row["prompt"]) < 7]
    result = compare_conditions(pa.Table.from_pylist(few), "a", "b", ["level"], None, "mean")
    assert np.isfinite(result.mean[0])
    assert np.isnan(result.p_adjusted[0])
    assert result.rows()[0][2:4] == ("–", "–")


def test_tests_of_several_comparisons_are_corrected_together(rows: list[dict[str, Any]]) -> None:
    single = compare_conditions(pa.Table.from_pylist(rows), "a", "b", ["level"], None, "mean")
    several = compare_conditions(pa.Table.from_pylist(rows), "b", "a", ["level", "mass"], None, "mean")
    corrected = correct_together([single, several])
    assert np.array_equal(np.concatenate([each.p_adjusted for each in corrected]), holm([*single.p, *several.p]))
    assert corrected[1].names == several.names


def test_a_study_compares_its_conditions(tmp_path: Path) -> None:
    study = dv.study(
        *(None, [{"prompt": "a red circle", "roles": {"red": "colour"}}]),
        measures=["attention", "scores", "divergence"],
        conditions=["uniform", "early"],
        out=tmp_path / "study",
        progress=False,
        num_inference_steps=2,
    )
    result = study.compare("uniform", "early", ["attention_mass", "attention_entropy"], by="role")
    assert result.names == ["attention_mass: colour", "attention_entropy: colour"]
    curves = {row["condition"]: row["attention_mass"][1] for row in study.table().to_pylist()}
    assert result.mean[0] == pytest.approx(np.mean(curves["early"]) - np.mean(curves["uniform"]), rel=1e-5)
    for arguments, message in (
        (("uniform", "late", "attention_mass"), "b must be one of"),
        (("uniform", "early", "words"), "measure must be one of"),
        (("uniform", "early", "scores_share"), "sum to 1 at each step"),
        (("uniform", "early", "divergence_image"), "0 by construction"),
    ):
        with pytest.raises(ValueError, match=message):
            study.compare(*arguments)
    with pytest.raises(ValueError, match="does not fit the column 'attention_mass'"):
        study.compare("uniform", "early", "attention_mass", by="concept")
    with pytest.raises(ValueError, match="reduce must be one of"):
        study.compare("uniform", "early", "attention_mass", reduce="median")  # pyright: ignore[reportArgumentType]
