"""Traces of pipelines of other kinds: no attention to read, several text encoders, words without a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from diffvis_widget.traces import Trace, Word
from diffvis_widget.widget.widget import DiffVis
from diffvis_widget.wire.messages import StepImages
from diffvis_widget.wire.packed_run import Message, unpack
from diffvis_widget.wire.trace_messages import recorded_settings, traced_run_message, traced_step_message, views_of
from tests.traces.build import WORDS, fake_decoder, make_trace
from tests.widget.conftest import SECONDS


def without_layers(words: Sequence[Word] = WORDS) -> Trace:
    whole = make_trace()
    records = [replace(record, maps=()) for record in whole.records]
    return Trace(
        prompt=whole.prompt,
        negative_prompt=None,
        words=words,
        layers=[],
        keep="layers",
        meta=whole.meta,
        records=records,
        decoder=fake_decoder,
    )


def run_of(trace: Trace) -> Message:
    return traced_run_message("r", trace, recorded_settings(trace), (), (8, 12), views_of(trace), None)


def test_a_trace_without_layers_is_shown_with_images_and_no_maps() -> None:
    trace = without_layers()
    assert run_of(trace).content["grid"] == [0, 0]
    image = trace.frames("prediction")[1]
    message = traced_step_message("r", trace, StepImages(trace.steps[1], image, None, True), 0.0)
    assert message.content["maps"] == {"shape": [len(WORDS), 0, 0], "scales": [None] * len(WORDS)}
    assert message.content["views"] == ["prediction", "guidance"]
    assert message.buffers[-1] == b""
    widget = DiffVis(trace)
    try:
        assert widget.wait(SECONDS)
        assert (widget.status, widget.error) == ("done", "")
        snapshot = unpack(widget._snapshot)
        assert [m.content["type"] for m in snapshot] == ["run", "step", "step", "step", "end"]
    finally:
        widget.close()


def test_a_word_says_which_encoder_reads_it() -> None:
    words = [Word("red", (1,), "word", encoder=name) for name in ("CLIP", "", "T5")]
    words.append(Word("plain", (2,), "word"))
    entries = run_of(without_layers(words)).content["words"]
    assert [entry["encoder"] for entry in entries] == ["CLIP", "", "T5", ""]


def test_a_word_whose_map_was_not_kept_has_no_scale() -> None:
    trace = make_trace()
    maps = trace.records[0].maps
    for layer in maps:
        layer[:, 8] = np.nan
    image = trace.frames("prediction")[0]
    message = traced_step_message("r", trace, StepImages(trace.steps[0], image, None, True), 0.0)
    has_map = [scale is not None for scale in message.content["maps"]["scales"]]
    assert has_map == [word.kind not in ("truncated", "padding") for word in WORDS]
