"""A widget that runs a model for videos: previews and exact images of each frame, and the final video."""

from __future__ import annotations

import copy
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

import diffvis_widget as dv
from diffvis_widget.wire.packed_run import unpack
from tests.pipelines_video import wan
from tests.widget.conftest import SECONDS
from tests.widget.session.test_scoring import ColourMeter


def test_a_widget_shows_a_video() -> None:
    arguments: dict[str, Any] = {"height": 32, "width": 48, "max_sequence_length": 24, "num_frames": 9}
    widget = dv.DiffVis(wan(), prompt="a tiny red circle", seed=3, steps=3, **arguments)
    trace = widget.trace
    assert widget.wait()
    assert widget.error == ""
    assert trace.frame_count == 3
    begin, *steps, end = unpack(widget._snapshot)
    assert begin.content["frames"] == 3
    assert [step.content["frames"] for step in steps] == [3, 3, 3]
    assert all(len(step.buffers) == 3 * len(step.content["views"]) + 1 for step in steps)
    assert len(end.buffers) == 1 + 9
    widget.close()


def test_concepts_are_scored_in_every_frame_while_a_video_is_made() -> None:
    meter: Any = ColourMeter()
    arguments: dict[str, Any] = {"height": 32, "width": 48, "max_sequence_length": 24, "num_frames": 9}
    with closing(
        dv.DiffVis(wan(), prompt="a red circle", seed=3, steps=3, meter=meter, concepts=["red"], **arguments)
    ) as widget:
        trace = widget.trace
        assert widget.wait()
        widget._session.publisher.scorer.drain(SECONDS)
        for concepts in (["red"], ["blue", "green"]):  # those of the second list are scored when the run is over
            widget.concepts = concepts
            widget._session.publisher.scorer.drain(SECONDS)
            scores, expected = trace.scores, dv.concept_scores(copy.copy(trace), concepts, meter)
            assert scores is not None
            assert scores.by_frame is not None
            assert expected.by_frame is not None
            assert scores.by_frame.shape == (3, 3, len(concepts))
            np.testing.assert_allclose(scores.by_frame, expected.by_frame, atol=1e-6)
            np.testing.assert_allclose(scores.cosine, scores.by_frame.mean(axis=1), atol=1e-6)
            assert np.abs(np.diff(scores.by_frame, axis=1)).max() > 0


def test_other_concepts_are_scored_in_a_video_from_a_file(tmp_path: Path) -> None:
    trace = dv.trace(wan(), "a red circle", seed=1, num_inference_steps=2, height=32, width=48, num_frames=5)
    opened = dv.open_trace(trace.save(tmp_path / "video.safetensors"))
    meter: Any = ColourMeter()
    with closing(dv.DiffVis(opened, meter=meter, concepts=["red"])) as widget:
        assert widget.wait()
        widget.concepts = ["green"]
        widget._session.publisher.scorer.drain(SECONDS)
        scores = opened.scores
    assert scores is not None
    assert scores.concepts == ["green"]
    expected = dv.concept_scores(trace, ["green"], meter)
    assert scores.by_frame is not None
    assert expected.by_frame is not None
    np.testing.assert_allclose(scores.by_frame, expected.by_frame, atol=0.02)  # a file may store images with losses


def test_a_widget_shows_a_recorded_video() -> None:
    trace = dv.trace(wan(), "a red circle", seed=1, num_inference_steps=2, height=32, width=48, num_frames=5)
    widget = dv.DiffVis(trace)
    assert widget.trace is trace
    assert len(unpack(widget._snapshot)[-1].buffers) == 1 + 5
    widget.close()
