"""The recorded run of the quickstart: small, the same as a fresh run, and shown only where that run is asked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import diffvis_widget as dv
from diffvis_widget.scenes.record_quickstart import record
from diffvis_widget.shipped import QUICKSTART_RUN
from diffvis_widget.wire import images
from diffvis_widget.wire.packed_run import Message, dequantise, unpack
from diffvis_widget.wire.shipped_run import CONCEPTS, REQUEST, pack_shipped_run, shipped_run

LEVELS = 3
"""Of 255, by which a pixel may differ: other processors add in another order."""


def of(packed: bytes, kind: str) -> list[Message]:
    return [message for message in unpack(packed) if message.content["type"] == kind]


def array(message: Message, view: str) -> np.ndarray:
    return np.asarray(images.read(message.buffers[message.content["views"].index(view)])).astype(int)


def test_it_is_what_a_fresh_run_of_the_same_seed_gives() -> None:
    packed = shipped_run(REQUEST, CONCEPTS)
    assert packed == QUICKSTART_RUN.read_bytes()
    assert len(packed) < 1_000_000
    fresh = pack_shipped_run(record(dv.load()))
    (run,), (fresh_run,) = of(packed, "run"), of(fresh, "run")
    assert run.content == fresh_run.content
    steps, fresh_steps = of(packed, "step"), of(fresh, "step")
    assert len(steps) == len(fresh_steps) == REQUEST.steps
    for step, again in zip(steps, fresh_steps, strict=True):
        assert step.content["timestep"] == again.content["timestep"]
        for view in ("prediction", "latents"):
            assert np.abs(array(step, view) - array(again, view)).max() <= LEVELS
        maps, maps_again = (
            dequantise(
                message.buffers[len(message.content["views"])],
                message.content["maps"]["shape"],
                message.content["maps"]["scales"],
            )
            for message in (step, again)
        )
        assert np.nanmax(np.abs(maps - maps_again)) < 5e-3
    scores, fresh_scores = of(packed, "scores")[0].content, of(fresh, "scores")[0].content
    assert np.abs(np.subtract(scores["cosine"], fresh_scores["cosine"])).max() < 5e-3
    assert scores["emergence"] == fresh_scores["emergence"]


def test_shares_are_those_of_the_concepts_on_the_page() -> None:
    (scores,) = of(shipped_run(REQUEST, ["red", "circle"]), "scores")
    cosine = np.array(scores.content["cosine"])
    all_cosine = np.array(of(shipped_run(REQUEST, CONCEPTS), "scores")[0].content["cosine"])
    assert np.array_equal(cosine, all_cosine[:, [2, 0]])
    share = dv.ConceptMeter().share(cosine.astype(np.float32))
    assert np.abs(np.array(scores.content["share"]) - share).max() < 5e-3
    assert scores.content["concepts"] == ["red", "circle"]


@pytest.mark.parametrize("concepts", [[], ["zebra"], ["circle", "zebra"]], ids=["none", "another", "one more"])
def test_concepts_that_were_not_measured_have_no_scores(concepts: Sequence[str]) -> None:
    packed = shipped_run(REQUEST, concepts)
    assert of(packed, "scores") == []
    assert len(of(packed, "step")) == REQUEST.steps


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "a red circle"},
        {"negative_prompt": "dark"},
        {"seed": 8},
        {"steps": 20},
        {"guidance_scale": 5.0},
        {"schedule": "early"},
        {"weights": {"red": 2.0}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_settings_have_no_recorded_run(changes: dict[str, Any]) -> None:
    assert shipped_run(replace(REQUEST, **changes), CONCEPTS) == b""


def test_it_is_read_without_torch() -> None:
    code = (
        "import sys; from diffvis_widget.wire.shipped_run import *; assert shipped_run(REQUEST, CONCEPTS);"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
