"""Prompts that a model of the pipeline rewrites before it encodes them: what was typed, beside what was painted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffvis_widget as dv
from diffvis_widget.tracer import Tracer
from diffvis_widget.traces import Trace
from diffvis_widget.wire.recorded_run import record
from tests.pipelines_recent import longcat_image

PROMPT = 'a sign that says "red circle"'
SIZE: dict[str, Any] = {"height": 32, "width": 48, "num_inference_steps": 2, "output_type": "np"}


def generate(pipe: Any, **more: Any) -> np.ndarray:
    return np.asarray(pipe(PROMPT, generator=torch.Generator().manual_seed(1), **SIZE, **more).images)


@pytest.fixture(scope="module")
def rewritten() -> tuple[Any, Trace]:
    pipe = longcat_image()
    plain = generate(pipe)
    with Tracer(pipe) as tracer:
        assert np.array_equal(generate(pipe), plain)
    return pipe, tracer.trace


def test_the_trace_has_what_was_typed_and_what_the_model_was_given(rewritten: tuple[Any, Trace]) -> None:
    pipe, trace = rewritten
    assert trace.typed_prompt == PROMPT
    assert [trace.prompt] == pipe.rewire_prompt(PROMPT, "cpu")
    assert trace.prompt != PROMPT
    assert "typed: " in trace._repr_html_()


def test_a_file_keeps_both(rewritten: tuple[Any, Trace], tmp_path: Path) -> None:
    _, trace = rewritten
    trace.save(tmp_path / "run.safetensors")
    opened = dv.open_trace(tmp_path / "run.safetensors")
    assert (opened.typed_prompt, opened.prompt) == (PROMPT, trace.prompt)


def test_the_page_is_told_both(rewritten: tuple[Any, Trace]) -> None:
    _, trace = rewritten
    content = record(trace).payload.run.content
    assert (content["prompt"], content["rewritten"]) == (PROMPT, trace.prompt)


def test_a_prompt_that_nothing_rewrites_is_what_was_typed(rewritten: tuple[Any, Trace]) -> None:
    pipe, _ = rewritten
    with Tracer(pipe) as tracer:
        generate(pipe, enable_prompt_rewrite=False)
    trace = tracer.trace
    assert trace.typed_prompt == trace.prompt == PROMPT
    expected = ["a", "sign", "that", "says", '"', "red", "circle", '"']
    assert [word.text for word in trace.words if word.kind == "word"] == expected
    # quoted parts are tokenized character by character, with the space before a word
    circle = next(word for word in trace.words if word.text == "circle")
    assert circle.token_texts == (" ", *"circle")
    assert "rewritten" not in record(trace).payload.run.content
