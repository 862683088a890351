"""What notes expect: how it is written, what is refused, and what it finds in a run; the page finds the same."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

import diffvis_widget as dv
from diffvis_widget.files import open_trace
from diffvis_widget.traces import Note, Trace
from diffvis_widget.traces.expectations import parse_expectation
from diffvis_widget.wire.trace_messages import notes_of
from tests.golden import write_expectations

PROMPT = "a red circle above a blue square"


@pytest.fixture(scope="module")
def trace() -> Trace:
    trace = dv.trace(dv.load(), PROMPT, seed=7, num_inference_steps=6, schedule="early")
    dv.concept_scores(trace, ["circle", "square"])
    return trace


def test_the_golden_file_is_what_python_finds() -> None:
    written = json.loads(write_expectations.PATH.read_text(encoding="utf-8"))
    assert json.loads(json.dumps(write_expectations.golden())) == written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expects must be a text of 1 to 1000 characters"),
        ("   ", "expects must be a text"),
        (3, "expects must be a text"),
        ("x" * 1001, "expects must be a text"),
        ("metre('circle') > 0.3", r"at its beginning a number or one of prompt, .*not \"metre.*did you mean 'meter'"),
        ("meter > 0.3", r"after 'meter' \"\(\", as in meter\(\"circle\"\), must come, not '> 0.3'"),
        ("meter(circle) > 0.3", r"a text in quotation marks, as in meter\( \"circle\", must come, not 'circle\)"),
        ("meter('circle' > 0.3", r"after \"meter\('circle'\" \"\)\" must come"),
        ("meter('circle') 0.3", r"one of > >= < <= = != must come, not '0.3'"),
        ("meter('circle') > ", "must come, not the end"),
        ("meter('circle') > meter('square) at the last step", "a quotation mark has no partner"),
        ("meter('circle') > 0.3 at step 0", "the number of a step, counted from 1"),
        ("meter('circle') > 0.3 at step 1.5", "the number of a step, counted from 1"),
        ("meter('circle') > 0.3 at the end", '"the first step", "the last step"'),
        ("meter('circle') > 0.3 on tuesday", '"average" must come'),
        ("meter('circle') > 0.3 or seed = 2", '"and" and another condition, or the end must come, not \'or'),
        ("seed = 3 at the last step", "seed of a run is the same at all steps: leave out 'at the last step'"),
        ("steps > seed on average", "steps and seed of a run are the same at all steps: leave out 'on average'"),
        ("1 < 2", "compares two numbers that never change"),
        ("map('circle') > 0.5", "a comma and a half of the image"),
        ("map('circle', 'middle') > 0.5", "one of left, right, top, bottom must come, not \"'middle'"),
        ("map('red circle', 'left') > 0.5", "map takes one word of the prompt, not 'red circle'"),
        ("prompt is 'moon'", '"has" or "lacks" must come'),
        ("prompt has moon", "a text in quotation marks"),
        ("prompt has '!'", "prompt has takes words of at most 200 characters"),
        ("schedule > 'early'", '"=" or "!=" must come'),
        ("schedule is soon", "one of uniform, early, late must come"),
        ("__import__('os').system('ls')", 'this character has no meaning at "\\.system'),
        ("eval('1') > 0", 'must come, not "eval'),
        ("meter('circle') > 0.3; seed = 2", "this character has no meaning at '; seed = 2'"),
        (" and ".join(["seed = 1"] * 17), "expects can have 16 conditions, not 17"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_would_work(text: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Note("Do it", expects=text)


def test_a_run_is_checked_against_its_own_arrays(trace: Trace) -> None:
    assert trace.scores is not None
    circle, square = trace.scores.cosine[-1]
    outcome = Note("Look", expects="meter('circle') > meter('square')").outcome(trace)
    assert outcome.met == (circle > square)
    assert outcome.reason == f"meter of “circle” {circle:.3f}, meter of “square” {square:.3f} at step 6"
    heat_map = trace.heat_map("circle", step=2)
    share = heat_map[:6].sum() / heat_map.sum()
    just_below, just_above = (f"map('circle', 'top') > {share + off:.6f} at step 3" for off in (-1e-5, 1e-5))
    assert Note("Look", expects=just_below).outcome(trace).met
    assert not Note("Look", expects=just_above).outcome(trace).met
    settings = "seed = 7 and steps = 6 and guidance = 7.5 and schedule = early and prompt has 'blue square'"
    assert Note("Look", expects=settings).outcome(trace) == dv.Outcome(
        True, "seed 7; 6 steps; guidance 7.5; the schedule is early; the prompt has “blue square”"
    )


def test_weights_of_words_are_read_from_the_run() -> None:
    weighted = dv.trace(
        dv.load(),
        PROMPT,
        num_inference_steps=2,
        interventions=[dv.intervene.weight("red", 2.0), dv.intervene.drop("blue")],
    )
    assert (
        Note("Look", expects="weight('red') = 2 and weight('blue') = 0 and weight('circle') = 1").outcome(weighted).met
    )


def test_other_runs_count(trace: Trace) -> None:
    others = []
    for seed in (7, 8, 9):
        other = Trace.__new__(Trace)
        other.__dict__ |= {**vars(trace), "meta": {**trace.meta, "seed": seed}}
        others.append(other)
    note = Note("Compare", expects="runs >= 4 and seeds >= 3")
    assert not note.outcome(trace).met
    assert note.outcome(trace, others).met


def test_a_note_without_an_expectation_has_no_outcome(trace: Trace) -> None:
    with pytest.raises(ValueError, match="this note expects nothing"):
        Note("Look").outcome(trace)
    with pytest.raises(TypeError, match="trace must be a Trace, not 'run'"):
        Note("Look", expects="steps > 1").outcome("run")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("compact", [False, True])
def test_it_travels_with_the_file(trace: Trace, tmp_path: Path, compact: bool) -> None:
    text = "meter(“circle”) > 0.1 at any step"
    copied = replace_notes(trace, [Note("Look", words=("circle",), expects=text), Note("And here")])
    back = open_trace(copied.save(tmp_path / "run", compact=compact))
    assert back.notes == copied.notes
    assert notes_of(back)[0]["expects"] == parse_expectation(text).data()
    assert "expects" not in notes_of(back)[1]
    assert back.notes[0].outcome(back).met
    half = Note("Half", expects="map('circle', 'top') > 0.2 at every step")
    assert half.outcome(back).met == half.outcome(trace).met


def replace_notes(trace: Trace, notes: list[Note]) -> Trace:
    copied = copy.copy(trace)
    copied.notes = notes
    return copied


def test_a_file_with_code_in_the_place_of_an_expectation_is_refused() -> None:
    header = {**Note("Look", expects="seed = 1").header(), "words": [], "expects": "open('/etc/passwd') = 1"}
    with pytest.raises(dv.TraceFileError, match="one of its notes is invalid: expects: at its beginning"):
        Note.read(header, None)  # pyright: ignore[reportArgumentType]
