"""Prompts of studies, from every kind of source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from diffvis_widget.studies.prompts import PromptRow, read_prompts

ROWS = [
    {"Prompt": 'a "red" circle, alone', "Category": "colour", "difficulty": 1},
    {"Prompt": "a blue square", "Category": "shape", "difficulty": 2.5},
]
EXPECTED = [
    PromptRow('a "red" circle, alone', columns={"Category": "colour", "difficulty": 1.0}),
    PromptRow("a blue square", columns={"Category": "shape", "difficulty": 2.5}),
]


def written(folder: Path, suffix: str) -> Path:
    """The rows in a file, by an independent writer."""
    path = folder / f"prompts{suffix}"
    frame = pd.DataFrame(ROWS)
    if suffix in (".csv", ".tsv"):
        frame.to_csv(path, index=False, sep="," if suffix == ".csv" else "\t")
    elif suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        frame.to_json(path, orient="records", lines=True)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_a_file_of_each_format_gives_the_same_prompts_and_columns(tmp_path: Path, suffix: str) -> None:
    assert read_prompts(written(tmp_path, suffix)) == EXPECTED
    assert read_prompts(str(written(tmp_path, suffix))) == EXPECTED


def test_dictionaries_and_a_data_frame_give_the_same() -> None:
    assert read_prompts(ROWS) == read_prompts(pd.DataFrame(ROWS)) == EXPECTED


def test_a_text_file_has_one_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a red circle\n\n  a blue square  \n", encoding="utf-8-sig")
    assert [row.prompt for row in read_prompts(path)] == ["a red circle", "a blue square"]


def test_seeds_and_roles_are_read_from_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"
    roles = {"red": "colour"}
    pd.DataFrame([{"prompt": "a red circle", "seed": 3, "roles": json.dumps(roles)}]).to_csv(path, index=False)
    assert read_prompts(path) == [PromptRow("a red circle", 3, (("red", "colour"),))]
    assert read_prompts([{"prompt": "a red circle", "seed": 3, "roles": {1: "colour"}}])[0].roles == ((1, "colour"),)


def test_a_repeated_prompt_is_one_prompt_and_mixed_types_become_text() -> None:
    assert len(read_prompts(["a star", "a star"])) == 1
    rows = read_prompts([{"prompt": "a", "level": 1}, {"prompt": "b", "level": "high"}, {"prompt": "c"}])
    assert [row.columns["level"] for row in rows] == ["1.0", "high", None]


def test_a_prompt_survives_its_file_of_json() -> None:
    row = PromptRow("a red circle", 5, (("red", "colour"), (3, "object")), {"level": 1.0, "name": None})
    assert PromptRow.from_json(json.loads(json.dumps(row.as_json()))) == row


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "one prompt or more"),
        ([" "], "entry 1 must hold a prompt"),
        ([{"text": "a circle"}], "no column prompt; it has text"),
        ([3], "a text or a dictionary"),
        ([{"prompt": "a", "seed": 1}, "b"], "every prompt, or of none"),
        ([{"prompt": "a", "seed": -1}], "whole number of 0 or more"),
        ([{"prompt": "a", "roles": "colour"}], "must be a dictionary such as"),
        ([{"prompt": "a", "error": "no"}], "own column 'error'"),
        ("prompts.docx", r"\.csv, \.tsv"),
        (7, "a list of texts"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else None,
)
def test_wrong_prompts_are_refused(source: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        read_prompts(source)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.csv"):
        read_prompts(tmp_path / "none.csv")
    path = tmp_path / "broken.jsonl"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"broken\.jsonl cannot be read as \.jsonl"):
        read_prompts(path)
