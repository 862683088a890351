"""Files written by version 0.1 open, and hold the values that version 0.1 read from them (values.npz)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import diffvis_widget as dv
from diffvis_widget.traces import Trace, TraceFileError
from diffvis_widget.wire.packed_run import Message, pack, unpack

FOLDER = Path(__file__).parent / "version_0_1"


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "values.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", ["whole.safetensors", "compact.dvr"])
def test_results_and_words_of_an_earlier_file(name: str, values: dict[str, np.ndarray]) -> None:
    trace = dv.open_trace(FOLDER / name)
    assert trace.prompt == "red circle"
    assert [word.token_texts for word in trace.words if word.kind == "word"] == [("red",), ("circle",)]
    assert trace.scores is not None
    assert trace.scores.concepts == ["circle", "red"]
    for field in ("cosine", "share", "null_band", "emergence"):
        np.testing.assert_array_equal(getattr(trace.scores, field), values[field])
    assert [(saliency.method, saliency.step) for saliency in trace.saliency] == [("df_rise", 1), ("df_cam", 0)]
    np.testing.assert_array_equal(trace.saliency[0].map, values["saliency"])
    np.testing.assert_array_equal(trace.saliency[0].stderr, values["stderr"])
    np.testing.assert_array_equal(trace.saliency[0].layers["mid"], values["layer"])
    np.testing.assert_array_equal(trace.relevance[1].raw, values["relevance"])
    np.testing.assert_array_equal(trace.relevance[1].maps, values["relevance_maps"])
    assert [note.text for note in trace.notes] == ["Look at the circle", "The whole run"]
    assert (trace.notes[0].step, trace.notes[0].words) == (1, ("circle",))


def test_a_whole_earlier_file(values: dict[str, np.ndarray]) -> None:
    trace = dv.open_trace(FOLDER / "whole.safetensors")
    np.testing.assert_array_equal(trace.latents[:, :, :4], values["latents"])
    np.testing.assert_array_equal(trace.predictions[:, 0], values["predictions"])
    np.testing.assert_array_equal(trace.image[40:48, 40:48], values["image"])
    np.testing.assert_array_equal(trace.frames("prediction")[:, ::12, ::12], values["frames"])
    np.testing.assert_array_equal(trace.heat_maps(), values["heat_maps"])
    np.testing.assert_array_equal(trace.heat_map("circle", step=1, layer=0), values["circle"])
    assert trace.negative is not None
    np.testing.assert_array_equal(trace.negative.heat_maps(), values["negative"])
    check_guidance(trace, values["guidance"])


def test_a_compact_earlier_file(values: dict[str, np.ndarray]) -> None:
    trace = dv.open_trace(FOLDER / "compact.dvr")
    assert trace.is_compact
    np.testing.assert_array_equal(trace.image[40:48, 40:48], values["compact_image"])
    np.testing.assert_array_equal(trace.frames("prediction")[:, ::12, ::12], values["compact_frames"])
    np.testing.assert_array_equal(trace.heat_maps(), values["compact_heat_maps"])
    check_guidance(trace, values["compact_guidance"])


def check_guidance(trace: Trace, expected: np.ndarray) -> None:
    assert trace.guidance is not None
    np.testing.assert_array_equal(trace.guidance, expected)


@pytest.mark.parametrize("name", ["whole.safetensors", "compact.dvr"])
def test_an_earlier_file_is_saved_in_the_present_form(tmp_path: Path, name: str) -> None:
    earlier = dv.open_trace(FOLDER / name)
    later = dv.open_trace(earlier.save(tmp_path / "run", compact=earlier.is_compact))
    assert later.words == earlier.words
    assert later.scores is not None
    assert earlier.scores is not None
    np.testing.assert_array_equal(later.scores.null_band, earlier.scores.null_band)


@pytest.mark.parametrize("lying", [3, [], [True, True], [False, False], [True, False, False]])
def test_an_earlier_compact_file_that_miscounts_its_relevance_is_refused(tmp_path: Path, lying: object) -> None:
    first, *page = unpack((FOLDER / "compact.dvr").read_bytes())
    assert first.content["lying"] == [False, True]
    (tmp_path / "bad").write_bytes(pack([Message({**first.content, "lying": lying}, first.buffers), *page]))
    with pytest.raises(TraceFileError, match=r"relevance|parts"):
        dv.open_trace(tmp_path / "bad")
