"""The golden file of the page's engine: what the code here computes is what it holds the engine to."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.golden import write_engine


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads(gzip.decompress(write_engine.PATH.read_bytes()))


def assert_close(value: Any, expected: Any, rel: float) -> None:
    """Equal but for the last digits of numbers, which differ between machines."""
    if isinstance(expected, dict):
        assert value.keys() == expected.keys()
        for name in expected:
            assert_close(value[name], expected[name], rel)
    elif isinstance(expected, list):
        assert len(value) == len(expected)
        for part, wanted in zip(value, expected, strict=True):
            assert_close(part, wanted, rel)
    elif isinstance(expected, float) and value is not None:
        assert value == pytest.approx(expected, rel=rel, abs=1e-7)
    else:
        assert value == expected


def test_tokens_and_words_of_500_prompts_are_those_of_the_file(golden: dict[str, Any]) -> None:
    rows = write_engine.token_rows()
    assert len(rows) == 500
    assert json.loads(json.dumps(rows)) == golden["tokens"]


@pytest.mark.parametrize("part", sorted(set(write_engine.PARTS) - {"tokens"}))
def test_numbers_are_those_of_the_file(golden: dict[str, Any], part: str) -> None:
    # noise levels divide small differences, which processors round in their own way
    rel = 1e-5 if part == "schedules" else 1e-6
    assert_close(json.loads(json.dumps(write_engine.PARTS[part]())), golden[part], rel)


def test_the_file_holds_nothing_else(golden: dict[str, Any]) -> None:
    assert golden.keys() == write_engine.PARTS.keys()
