"""The queries of the documentation, run on a study."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import diffvis_widget as dv

PAGE = Path(__file__).parent.parent.parent / "docs" / "pages" / "studies.md"
QUERIES = re.findall(r"```python query\n(import (\w+).*?)```", PAGE.read_text(encoding="utf-8"), re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("queries")
    dv.study(
        *(None, ["a red circle", "a green star"]),
        measures=["scores", "attention"],
        conditions=["uniform", "early"],
        out=folder / "study",
        progress=False,
        num_inference_steps=2,
    )
    return folder


@pytest.fixture(scope="module")
def answers(folder: Path) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        for code, library in QUERIES:
            names: dict[str, Any] = {}
            exec(code, names)
            answers[library] = names["answer"].df() if library == "duckdb" else names["answer"]
    return answers


def test_the_page_has_a_query_for_each_library() -> None:
    assert [library for _, library in QUERIES] == ["pandas", "polars", "duckdb"]


def test_pandas_answers(folder: Path, answers: dict[str, Any]) -> None:
    rows = dv.Study.open(folder / "study").to_pandas(["condition", "seconds"])
    for condition in ("uniform", "early"):
        assert answers["pandas"][condition] == pytest.approx(rows[rows.condition == condition].seconds.mean())


def test_polars_answers(answers: dict[str, Any]) -> None:
    assert set(answers["polars"]["scores_concepts"]) == {"red", "circle", "green", "star"}


def test_duckdb_answers(folder: Path, answers: dict[str, Any]) -> None:
    table: pd.DataFrame = answers["duckdb"]
    rows = dv.Study.open(folder / "study").table().to_pylist()
    means = {
        (row["condition"], word): sum(mass) / len(mass)
        for row in rows
        if row["prompt"] == "a red circle"
        for word, mass in zip(row["words"], row["attention_mass"], strict=True)
        if word == "circle"
    }
    for (condition, word), mean in means.items():
        row = table[(table.condition == condition) & (table.word == word)]
        assert row.mean_attention.item() == pytest.approx(mean, rel=1e-5)
