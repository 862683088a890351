"""Writes the golden file of expectations: runs, what notes expect of them, and what must come out.

    python -m tests.golden.write_expectations

tests/traces/test_expectations.py holds Python to it, js/tests/drawers/notes/expectations.test.ts the page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffvis_widget.traces.expectations import evaluate, parse_expectation
from diffvis_widget.traces.expectations.evaluation import ConceptFacts, Series
from diffvis_widget.traces.expectations.trace_facts import half_share

PATH = Path(__file__).parent / "expectations.json"

CIRCLES = {
    "prompt": "A red Circle, above a blue square",
    "is_finished": True,
    "seed": 7,
    "steps": 4,
    "guidance": 7.5,
    "schedule": "early",
    "weights": {"red": 2.5, "blue": None},
    "other_runs": [
        ["A red Circle, above a blue square", 3],
        ["A red Circle, above a blue square", 7],
        ["the moon", 4],
    ],
    "concepts": {
        "circle": {"cosine": [0.1, 0.2, 0.3, 0.35], "share": [0.4, 0.5, 0.7, 0.8], "emergence": 2},
        "square": {"cosine": [0.15, 0.21, 0.25, 0.31], "share": [0.6, 0.5, 0.3, 0.2], "emergence": None},
        "moon": {"cosine": [0.1, None, 0.1, 0.1], "share": None, "emergence": 1},
    },
    "maps": {
        "circle": {"top": [0.5, 0.6, 0.71, 0.82], "left": [0.5, 0.5, None, 0.5]},
        "square": {"top": [0.5, 0.4, 0.3, 0.2]},
    },
}
RUNNING = {**CIRCLES, "is_finished": False}
UNKNOWN = {**CIRCLES, "seed": None, "guidance": None, "weights": {}, "other_runs": [], "concepts": {}, "maps": {}}

EXPECTED = [
    'meter("circle") > meter("square") at the last step',
    'meter("circle") > meter("square")',
    "METER('Circle') < meter(“square”) at the first step",
    'meter("circle") > meter("square") at any step',
    'meter("circle") > meter("square") at every step',
    'meter("circle") > 0.9 at any step',
    'meter("circle") > 0.05 at every step',
    'meter("circle") >= 0.2 at step 2',
    'meter("circle") >= 0.2 at step 5',
    'meter("circle") > meter("square") on average',
    'meter("moon") > 0 at step 2',
    'meter("tree") > 0',
    'share("circle") >= 0.8',
    'share("moon") > 0',
    'emergence("circle") <= 3',
    'emergence("circle") < emergence("square")',
    'emergence("moon") > 0',
    'map("circle", "top") > 0.8',
    'map("circle", top) > map("square", "top") at every step',
    'map("circle", "left") >= 0.5 at every step',
    'map("moon", "left") > 0',
    'prompt has "red circle"',
    'prompt has "RED  circle"',
    'prompt has "circle above"',
    'prompt has "ed"',
    'prompt lacks "green"',
    'prompt lacks "blue square" and prompt has "moon"',
    'prompt contains "square" and weight("constructor") = 1',
    'weight("red") = 2.5',
    'weight("blue") < 0.5',
    'weight("circle") = 1',
    'weight("green") > 1',
    "steps >= 4 and seed is 7 and guidance ≠ 1",
    "steps > 4 and seed is not 7",
    "seed = 3",
    "guidance <= 7.5",
    "schedule is early",
    'schedule != "early"',
    "runs >= 4",
    "seeds >= 2",
    "seeds >= 3 and runs > 1",
    "steps < 1",
]


@dataclass(frozen=True)
class GoldenRun:
    """A run of the golden file."""

    prompt: str
    is_finished: bool
    seed: int | None
    steps: int
    guidance: float | None
    schedule: str
    weights: Mapping[str, float | None]
    other_runs: Sequence[tuple[str, int | None]]
    concepts: Mapping[str, Mapping[str, Any]]
    maps: Mapping[str, Mapping[str, Series]]

    def concept(self, name: str) -> ConceptFacts | None:
        return ConceptFacts(**self.concepts[name]) if name in self.concepts else None

    def half_of_map(self, word: str, half: str) -> Series | None:
        return self.maps.get(word, {}).get(half)


def cases() -> list[dict[str, Any]]:
    runs = {"circles": CIRCLES, "running": RUNNING, "unknown": UNKNOWN}
    written: list[dict[str, Any]] = []
    for name, run in runs.items():
        for text in EXPECTED if name != "running" else EXPECTED[:1]:
            expectation = parse_expectation(text)
            outcome = evaluate(expectation, GoldenRun(**run))
            written.append({"run": name, "expects": expectation.data(), "met": outcome.met, "reason": outcome.reason})
    return written


def halves() -> list[dict[str, Any]]:
    """Maps in bytes as the page has them, with their shares; odd sizes have a middle row and column."""
    written: list[dict[str, Any]] = []
    for height, width in ((4, 6), (5, 3), (1, 1)):
        scale = [0.25, 4.0]
        values = (np.arange(height * width) * 37 % 256).astype(np.uint8).reshape(height, width)
        heat_map = scale[0] + values.astype(np.float64) / 255 * (scale[1] - scale[0])
        shares = {half: half_share(heat_map, half) for half in ("left", "right", "top", "bottom")}
        written.append({"height": height, "width": width, "scale": scale, "data": values.ravel().tolist(), **shares})
    return written


def golden() -> dict[str, Any]:
    runs = {"circles": CIRCLES, "running": RUNNING, "unknown": UNKNOWN}
    return {"runs": runs, "cases": cases(), "halves": halves()}


if __name__ == "__main__":
    PATH.write_text(json.dumps(golden(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
