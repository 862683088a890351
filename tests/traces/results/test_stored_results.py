"""Notes, scores, saliency maps and relevance in a trace file: they come back whole, and hostile ones are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from diffvis_widget.files import open_trace
from diffvis_widget.traces import ConceptScores, Note, Saliency, Trace, TraceFileError, WordRelevance
from diffvis_widget.traces.file.reader import KEY
from diffvis_widget.wire.packed_run import Message, pack, unpack
from tests.traces.build import make_trace
from tests.traces.file.test_file import parts


def with_results(**options: Any) -> Trace:
    trace = make_trace(**options)
    rng = np.random.default_rng(3)
    steps = len(trace.steps)

    def floats(*shape: int) -> np.ndarray:
        return rng.random(shape).astype(np.float32)

    trace.scores = ConceptScores(
        ["circle", "<b>"], floats(steps, 2), floats(steps, 2), floats(steps, 2), np.array([1, np.nan], "f4"), "a meter"
    )
    trace.saliency.append(Saliency("df_rise", 2, floats(8, 12), floats(8, 12), 500))
    trace.saliency.append(Saliency("df_cam", 0, floats(8, 12), layers={"mid": floats(2, 3), "up": floats(8, 12)}))
    words = len(trace.words)
    maps = floats(steps, words, 4, 6)
    trace.relevance.append(WordRelevance("uniform", trace.timesteps, maps.sum(axis=(2, 3)), maps))
    raw = floats(2, words)
    raw[:, 0] = np.nan  # as of a word that was cut off
    trace.relevance.append(WordRelevance("late", np.array([99, 1], "f4"), raw))
    trace.note("Look: the circle appears before its colour", step=1, words=["circle", 1], region=(0, 0.25, 0.5, 1))
    trace.note("The whole run \ud800")
    return trace


def check_same_results(back: Trace, trace: Trace) -> None:
    assert back.notes == trace.notes
    assert back.scores is not None
    assert trace.scores is not None
    assert (back.scores.concepts, back.scores.meter) == (trace.scores.concepts, trace.scores.meter)
    for name in ("cosine", "share", "null_band", "emergence"):
        np.testing.assert_array_equal(getattr(back.scores, name), getattr(trace.scores, name))
    assert len(back.saliency) == 2
    for read, saved in zip(back.saliency, trace.saliency, strict=True):
        assert (read.method, read.step, read.masks_used) == (saved.method, saved.step, saved.masks_used)
        np.testing.assert_array_equal(read.map, saved.map)
        assert list(read.layers) == list(saved.layers)
        for name in read.layers:
            np.testing.assert_array_equal(read.layers[name], saved.layers[name])
    np.testing.assert_array_equal(back.saliency[0].stderr, trace.saliency[0].stderr)
    assert back.saliency[1].stderr is None
    assert [relevance.schedule for relevance in back.relevance] == ["uniform", "late"]
    for read, saved in zip(back.relevance, trace.relevance, strict=True):
        np.testing.assert_array_equal(read.timesteps, saved.timesteps)
        np.testing.assert_array_equal(read.raw, saved.raw)
        np.testing.assert_array_equal(read.scaled(back.words), saved.scaled(trace.words))
    np.testing.assert_array_equal(back.relevance[0].maps, trace.relevance[0].maps)
    assert back.relevance[1].maps is None


@pytest.mark.parametrize("compact", [False, True])
def test_they_come_back_whole(tmp_path: Path, compact: bool) -> None:
    trace = with_results()
    check_same_results(open_trace(trace.save(tmp_path / "run", compact=compact)), trace)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": ""}, "text must be"),
        ({"text": 3}, "text must be"),
        ({"text": "x" * 4001}, "text must be"),
        ({"text": "a", "step": -1}, "step must be a whole number"),
        ({"text": "a", "step": 1.5}, "step must be a whole number"),
        ({"text": "a", "step": True}, "step must be a whole number"),
        ({"text": "a", "words": "circle"}, "words must be a list"),
        ({"text": "a", "words": [None]}, "words must be a whole number"),
        ({"text": "a", "region": (0, 0, 0, 1)}, "region must be"),
        ({"text": "a", "region": (0, 0, 1)}, "region must be"),
        ({"text": "a", "region": (0, 0, float("nan"), 1)}, "region must be"),
        ({"text": "a", "region": "all"}, "region must be"),
    ],
)
def test_invalid_notes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Note(**arguments)


def test_a_note_names_steps_and_words_that_exist() -> None:
    trace = make_trace()
    with pytest.raises(IndexError, match="are 0 to 2"):
        trace.note("late", step=3)
    with pytest.raises(KeyError, match="'dog' is not in the prompt"):
        trace.note("bark", words=["dog"])
    assert trace.notes == []
    assert trace.note("see", words=["RED"]) in trace.notes


def test_results_of_another_run_are_not_written(tmp_path: Path) -> None:
    trace = with_results()
    assert trace.scores is not None
    trace.scores = replace(trace.scores, cosine=trace.scores.cosine[:2])
    with pytest.raises(ValueError, match=r"scores: cosine is \(2, 2\), and this trace of 3 steps needs \(3, 2\)"):
        trace.save(tmp_path / "run")
    trace.scores = None
    trace.saliency.append(Saliency("df_rise", 9, np.zeros((8, 12), "f4")))
    with pytest.raises(ValueError, match="a map of df_rise is of the step with index 9"):
        trace.save(tmp_path / "run")
    trace.saliency.clear()
    trace.notes.append(Note("late", step=7))
    with pytest.raises(ValueError, match="is about the step with index 7"):
        trace.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def altered(kind: str, relevance: WordRelevance) -> WordRelevance:
    assert relevance.maps is not None
    match kind:
        case "words":
            return replace(relevance, raw=relevance.raw[:, 1:])
        case "steps":
            return replace(relevance, raw=relevance.raw[1:])
        case "rank":
            return replace(relevance, raw=relevance.raw[..., None])
        case "empty":
            return replace(relevance, raw=relevance.raw[:0], timesteps=relevance.timesteps[:0], maps=None)
        case "maps":
            return replace(relevance, maps=relevance.maps[:, 1:])
        case "run":
            return replace(relevance, timesteps=relevance.timesteps - 1)
        case _:
            return replace(relevance, timesteps=relevance.timesteps * np.float32(np.inf))


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("words", r"relevance under 'uniform': raw is \(3, \d\) and timesteps \(3,\); with the \d words"),
        ("steps", r"raw is \(2, \d\) and timesteps \(3,\)"),
        ("rank", r"raw is \(3, \d, 1\)"),
        ("empty", r"raw is \(0, \d\)"),
        ("maps", r"maps is \(3, \d, 4, 6\) and must be \(3, \d\) and a height and a width"),
        ("run", r"is of another run: .* whose 3 steps have other timesteps"),
        ("infinite", "timesteps must be finite"),
    ],
)
def test_relevance_of_another_run_is_not_written(tmp_path: Path, compact: bool, kind: str, message: str) -> None:
    trace = with_results()
    trace.relevance[0] = altered(kind, trace.relevance[0])
    with pytest.raises(ValueError, match=message):
        trace.save(tmp_path / "run", compact=compact)
    assert list(tmp_path.iterdir()) == []


def test_curves_are_scaled_over_the_typed_words_of_each_step() -> None:
    trace = with_results()
    (relevance, _), words = trace.relevance, trace.words
    typed = [index for index, word in enumerate(words) if word.kind == "word" and word.tokens]
    scaled = relevance.scaled(words)
    assert 1 < len(typed) < len(words)
    assert np.isnan(np.delete(scaled, typed, axis=1)).all()
    for row, raw in zip(scaled[:, typed], relevance.raw[:, typed], strict=True):
        np.testing.assert_allclose(row, (raw - raw.min()) / (raw.max() - raw.min()), rtol=1e-6)
    assert np.isnan(relevance.scaled([replace(word, kind="special") for word in words])).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"relevance.0": np.ones((3, 8), "f4")}, r"raw is \(3, 8\) and timesteps \(3,\)"),
        ({"relevance.0": np.ones((3, 4), "f2")}, "'relevance.0' is float16"),
        ({"relevance.0": None}, "'relevance.0' is missing"),
        ({"relevance.0.timesteps": np.ones(2, "f4")}, r"raw is \(3, 9\) and timesteps \(2,\)"),
        ({"relevance.0.timesteps": np.ones(3, "f4")}, "is of another run"),
        ({"relevance.1.timesteps": np.full(2, np.nan, "f4")}, "timesteps must be finite"),
        ({"relevance.0.maps": np.ones((3, 2, 4, 6), "f4")}, r"maps is \(3, 2, 4, 6\) and must be"),
        ({"relevance.0.maps": np.ones((3, 4, 6), "f4")}, "'relevance.0.maps' is float32"),
        ({"relevance.2": np.ones((3, 4), "f4")}, "parts that no trace has: relevance.2"),
    ],
)
def test_hostile_relevance_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    header, tensors = parts(with_results().save(tmp_path / "run"))
    tensors = {name: part for name, part in (tensors | change).items() if part is not None}
    save_file(tensors, tmp_path / "bad", metadata={KEY: json.dumps(header)})
    with pytest.raises(TraceFileError, match=message):
        open_trace(tmp_path / "bad")


@pytest.mark.parametrize("relevance", [3, [3], [{}], [{"schedule": 3}], [{"schedule": "late"}] * 3])
def test_a_header_that_says_other_things_of_relevance_is_refused(tmp_path: Path, relevance: Any) -> None:
    header, tensors = parts(with_results().save(tmp_path / "run"))
    save_file(tensors, tmp_path / "bad", metadata={KEY: json.dumps(header | {"relevance": relevance})})
    with pytest.raises(TraceFileError, match=r"relevance|schedule"):
        open_trace(tmp_path / "bad")


@pytest.mark.parametrize(
    "change",
    [
        {"tensors": 3},
        {"tensors": []},
        {"name": "relevance.7"},
        {"name": "relevance.0"},
        {"name": None},
        {"dtype": "object"},
        {"dtype": "float16"},
        {"shape": [2, 2]},
        {"shape": "all"},
    ],
)
def test_a_compact_file_with_other_tensors_than_it_lists_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    first, *page = unpack(with_results().save(tmp_path / "run", compact=True).read_bytes())
    assert "relevance.0.maps" in [entry["name"] for entry in first.content["tensors"]]
    if "tensors" in change:
        content = first.content | change
    else:
        content = {**first.content, "tensors": [*first.content["tensors"][:-1], first.content["tensors"][-1] | change]}
    (tmp_path / "bad").write_bytes(pack([Message(content, first.buffers), *page]))
    with pytest.raises(TraceFileError, match=r"tensors|part|shape"):
        open_trace(tmp_path / "bad")
