"""Conditions of studies: checked, stored as JSON, and completed by the columns of a prompt."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import diffvis_widget as dv
from diffvis_widget.studies.conditions import check_conditions, completed, describe, restore
from diffvis_widget.studies.plan import Plan
from diffvis_widget.studies.prompts import PromptRow

ROW = PromptRow("a red circle", columns={"colour": "red", "other": "a blue circle", "empty": None})


@pytest.mark.parametrize(
    "value",
    [
        {"guidance_scale": 3.5, "interventions": [dv.intervene.weight("red", 2.0, (0, 3))]},
        {"interventions": [dv.intervene.drop(["red", 2]), dv.intervene.switch("a star", 4)]},
        {"schedule": "early", "negative_prompt": None},
    ],
    ids=["weight", "drop and switch", "plain"],
)
def test_settings_survive_a_file(value: dict[str, Any]) -> None:
    assert restore("settings", json.loads(json.dumps(describe("settings", value)))) == value


def test_arrays_are_described_by_their_content_and_cannot_be_restored() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert describe("image", image) == describe("image", image.copy())
    assert describe("image", image) != describe("image", image + 1)
    with pytest.raises(ValueError, match="image is an array or image"):
        restore("image", describe("image", image))


def test_texts_and_interventions_are_completed_by_columns() -> None:
    settings = {
        "prompt": "a photo of {prompt}",
        "negative_prompt": "{other}",
        "interventions": [dv.intervene.weight("{colour}", 2.0), dv.intervene.switch("{other}", 3)],
    }
    prompt, arguments = completed(settings, ROW)
    assert prompt == "a photo of a red circle"
    assert arguments["negative_prompt"] == "a blue circle"
    assert arguments["interventions"] == [dv.intervene.weight("red", 2.0), dv.intervene.switch("a blue circle", 3)]
    assert completed({"prompt": {"a red circle": "a star"}}, ROW)[0] == "a star"
    for text in ("{missing}", "{empty}", "{", "{colour.upper.nothing}"):
        with pytest.raises(ValueError, match="names no column of the prompts"):
            completed({"prompt": text}, ROW)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (["soon"], "names schedules"),
        ({}, "settings by name"),
        ({"": {}}, "text with letters"),
        ({"a": 3}, "must be a dictionary"),
        ({"a": {"seed": 3}}, "use seeds= instead"),
        ({"a": {"callback": print}}, "callback must be a text, number"),
    ],
    ids=["list", "empty", "name", "settings", "seed", "function"],
)
def test_wrong_conditions_are_refused(conditions: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        check_conditions(conditions)


def test_rows_are_in_the_order_of_prompts_seeds_and_conditions() -> None:
    plan = Plan([PromptRow("a"), PromptRow("b")], [4, 5], {"x": {}, "y": {}}, {})
    tasks = [plan.task(row) for row in range(plan.total)]
    expected = [(prompt, seed, condition) for prompt in "ab" for seed in (4, 5) for condition in "xy"]
    assert [(task.entry.prompt, task.seed, task.condition) for task in tasks] == expected
    seeded = Plan([PromptRow("a", 7), PromptRow("b", 9)], [0], {"x": {}}, {})
    assert [seeded.task(row).seed for row in range(seeded.total)] == [7, 9]


def test_shards_divide_the_rows_and_keep_the_conditions_of_a_seed_together() -> None:
    plan = Plan([PromptRow(str(number)) for number in range(5)], [0, 1], {"x": {}, "y": {}}, {})
    shards = [list(plan.rows((part, 3))) for part in range(3)]
    assert sorted(row for shard in shards for row in shard) == list(range(plan.total))
    for shard in shards:
        assert {row // 2 for row in shard if row % 2 == 0} == {row // 2 for row in shard if row % 2 == 1}
