"""What was found out about a run after it: notes, scores, saliency maps, relevance, in its file and out of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from diffvis_widget.traces import ConceptScores, Note, Saliency, Trace, TraceFileError, WordRelevance, open_trace
from diffvis_widget.traces.file.reader import KEY
from diffvis_widget.wire.packed_run import Message, pack, unpack
from tests.traces.build import make_trace
from tests.traces.file.test_file import parts


def with_additions(**options: Any) -> Trace:
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


def check_additions(back: Trace, trace: Trace) -> None:
    assert back.notes == trace.notes
    assert back.scores is not None
    assert trace.scores is not None
    assert (back.scores.concepts, back.scores.meter) == (trace.scores.concepts, trace.scores.meter)
    for name in ("cosine", "share", "null_band", "emergence"):
        np.testing.assert_array_equal(getattr(back.scores, name), getattr(trace.scores, name))
    assert len(back.saliency) == 2
    for one, other in zip(back.saliency, trace.saliency, strict=True):
        assert (one.method, one.step, one.masks_used) == (other.method, other.step, other.masks_used)
        np.testing.assert_array_equal(one.map, other.map)
        assert list(one.layers) == list(other.layers)
        for name in one.layers:
            np.testing.assert_array_equal(one.layers[name], other.layers[name])
    np.testing.assert_array_equal(back.saliency[0].stderr, trace.saliency[0].stderr)
    assert back.saliency[1].stderr is None
    assert [one.schedule for one in back.relevance] == ["uniform", "late"]
    for one, other in zip(back.relevance, trace.relevance, strict=True):
        np.testing.assert_array_equal(one.timesteps, other.timesteps)
        np.testing.assert_array_equal(one.raw, other.raw)
        np.testing.assert_array_equal(one.scaled(back.words), other.scaled(trace.words))
    np.testing.assert_array_equal(back.relevance[0].maps, trace.relevance[0].maps)
    assert back.relevance[1].maps is None


@pytest.mark.parametrize("compact", [False, True])
def test_they_come_back_whole(tmp_path: Path, compact: bool) -> None:
    trace = with_additions()
    check_additions(open_trace(trace.save(tmp_path / "run", compact=compact)), trace)


@pytest.mark.parametrize(
    ("arguments", "words"),
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
def test_notes_that_cannot_be(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        Note(**arguments)


def test_a_note_is_about_what_is_there() -> None:
    trace = make_trace()
    with pytest.raises(IndexError, match="steps 0 to 2"):
        trace.note("late", step=3)
    with pytest.raises(KeyError, match="'dog' is not in the prompt"):
        trace.note("bark", words=["dog"])
    assert trace.notes == []
    assert trace.note("see", words=["RED"]) in trace.notes


def test_additions_of_another_run_are_not_written(tmp_path: Path) -> None:
    trace = with_additions()
    assert trace.scores is not None
    trace.scores = replace(trace.scores, cosine=trace.scores.cosine[:2])
    with pytest.raises(ValueError, match=r"scores: cosine is \(2, 2\), and this trace of 3 steps needs \(3, 2\)"):
        trace.save(tmp_path / "run")
    trace.scores = None
    trace.saliency.append(Saliency("df_rise", 9, np.zeros((8, 12), "f4")))
    with pytest.raises(ValueError, match="a map of df_rise is of step 9"):
        trace.save(tmp_path / "run")
    trace.saliency.clear()
    trace.notes.append(Note("late", step=7))
    with pytest.raises(ValueError, match="is about step 7"):
        trace.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def other(kind: str, one: WordRelevance) -> WordRelevance:
    assert one.maps is not None
    match kind:
        case "words":
            return replace(one, raw=one.raw[:, 1:])
        case "steps":
            return replace(one, raw=one.raw[1:])
        case "rank":
            return replace(one, raw=one.raw[..., None])
        case "empty":
            return replace(one, raw=one.raw[:0], timesteps=one.timesteps[:0], maps=None)
        case "maps":
            return replace(one, maps=one.maps[:, 1:])
        case "run":
            return replace(one, timesteps=one.timesteps - 1)
        case _:
            return replace(one, timesteps=one.timesteps * np.float32(np.inf))


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize(
    ("kind", "said"),
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
def test_relevance_of_another_run_is_not_written(tmp_path: Path, compact: bool, kind: str, said: str) -> None:
    trace = with_additions()
    trace.relevance[0] = other(kind, trace.relevance[0])
    with pytest.raises(ValueError, match=said):
        trace.save(tmp_path / "run", compact=compact)
    assert list(tmp_path.iterdir()) == []


def test_curves_are_scaled_over_the_typed_words_of_each_step() -> None:
    trace = with_additions()
    (one, _), words = trace.relevance, trace.words
    typed = [index for index, word in enumerate(words) if word.kind == "word" and word.tokens]
    scaled = one.scaled(words)
    assert 1 < len(typed) < len(words)
    assert np.isnan(np.delete(scaled, typed, axis=1)).all()
    for row, raw in zip(scaled[:, typed], one.raw[:, typed], strict=True):
        np.testing.assert_allclose(row, (raw - raw.min()) / (raw.max() - raw.min()), rtol=1e-6)
    assert np.isnan(one.scaled([replace(word, kind="special") for word in words])).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"relevance.0": np.ones((3, 8), "f4")}, r"'relevance.0' is float32 \(3, 8\), which contradicts its header"),
        ({"relevance.0": np.ones((3, 4), "f2")}, "'relevance.0' is float16"),
        ({"relevance.0": None}, "'relevance.0' is missing"),
        ({"relevance.0.timesteps": np.ones(2, "f4")}, r"'relevance.0.timesteps' is float32 \(2,\)"),
        ({"relevance.0.timesteps": np.ones(3, "f4")}, "is of another run"),
        ({"relevance.1.timesteps": np.full(2, np.nan, "f4")}, "timesteps must be finite"),
        ({"relevance.0.maps": np.ones((3, 2, 4, 6), "f4")}, "'relevance.0.maps' is float32"),
        ({"relevance.0.maps": np.ones((3, 4, 6), "f4")}, "'relevance.0.maps' is float32"),
        ({"relevance.2": np.ones((3, 4), "f4")}, "parts that no trace has: relevance.2"),
    ],
)
def test_hostile_relevance_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    header, tensors = parts(with_additions().save(tmp_path / "run"))
    tensors = {name: part for name, part in (tensors | change).items() if part is not None}
    save_file(tensors, tmp_path / "bad", metadata={KEY: json.dumps(header)})
    with pytest.raises(TraceFileError, match=said):
        open_trace(tmp_path / "bad")


@pytest.mark.parametrize("relevance", [3, [3], [{}], [{"schedule": 3}], [{"schedule": "late"}] * 3])
def test_a_header_that_says_other_things_of_relevance_is_refused(tmp_path: Path, relevance: Any) -> None:
    header, tensors = parts(with_additions().save(tmp_path / "run"))
    save_file(tensors, tmp_path / "bad", metadata={KEY: json.dumps(header | {"relevance": relevance})})
    with pytest.raises(TraceFileError, match=r"relevance|schedule"):
        open_trace(tmp_path / "bad")


@pytest.mark.parametrize("lying", [3, [], [True, True], [False, False], [True, False, False]])
def test_a_compact_file_that_miscounts_its_relevance_is_refused(tmp_path: Path, lying: Any) -> None:
    own, *page = unpack(with_additions().save(tmp_path / "run", compact=True).read_bytes())
    assert own.content["lying"] == [True, False]
    bad = Message({**own.content, "lying": lying}, own.buffers)
    (tmp_path / "bad").write_bytes(pack([bad, *page]))
    with pytest.raises(TraceFileError, match=r"relevance|parts"):
        open_trace(tmp_path / "bad")
