"""A widget that runs a model for videos: previews and exact images of each frame, and the final video."""

from __future__ import annotations

from typing import Any

import diffvis_widget as dv
from diffvis_widget.wire.packed_run import unpack
from tests.pipelines_video import wan


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


def test_a_widget_shows_a_recorded_video() -> None:
    trace = dv.trace(wan(), "a red circle", seed=1, num_inference_steps=2, height=32, width=48, num_frames=5)
    widget = dv.DiffVis(trace)
    assert widget.trace is trace
    assert len(unpack(widget._snapshot)[-1].buffers) == 1 + 5
    widget.close()
