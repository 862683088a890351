"""`Trace.keep_attention`: the stored rows are those of single positions, in the trace, in files and in pages."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffvis_widget as dv
from diffvis_widget.tracer import Tracer
from diffvis_widget.traces import ImageAttention, Trace, TraceFileError
from diffvis_widget.traces.results import StoredTensors
from tests import pipelines
from tests.pipelines_edit import EDITING

PROMPT = "A tiny red circle, above a blue square"


def of_klein() -> tuple[Any, Trace]:
    case = EDITING["klein-two"]
    pipe = case.build()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Tracer(pipe) as tracer:
            pipe(prompt=PROMPT, generator=torch.Generator().manual_seed(1), **case.arguments)
    return pipe, tracer.trace


@pytest.mark.parametrize("name", ["scenes", "several grids", "references"])
def test_rows_are_those_of_single_positions(name: str, tmp_path: Path) -> None:
    if name == "references":
        pipe, trace = of_klein()
    else:
        pipe = dv.load() if name == "scenes" else pipelines.stable_diffusion()
        trace = dv.trace(pipe, PROMPT, seed=7, num_inference_steps=2)
        if name == "several grids":
            trace.layers[:] = [dv.Layer(x.name, x.kind, x.heads, x.grid, default=True) for x in trace.layers]
    stored = trace.keep_attention([1])
    assert stored.rows is not None
    assert pipe is not None  # which has the denoiser
    files = trace.save(tmp_path / "run.safetensors"), trace.save(tmp_path / "run.diffvis", compact=True)
    targets = ["image", *(f"reference {index}" for index in range(len(stored.reference_grids)))]
    for opened in map(dv.open_trace, files):
        for position in [(0.0, 0.0), (0.3, 0.72), (0.5, 0.1), (1.0, 1.0)]:
            for target in targets:
                expected = trace.attention_from(position, 1, to=target)
                values = opened.attention_from(position, 1, to=target)
                assert values.dtype == np.float32
                np.testing.assert_allclose(values, expected, atol=1e-6, rtol=2.0**-10)
        with pytest.raises(ValueError, match="no live pipeline"):
            opened.attention_from((0.5, 0.5), 0)


def test_a_second_call_replaces_the_first() -> None:
    pipe = dv.load()
    trace = dv.trace(pipe, "a red circle", seed=7, num_inference_steps=2)
    trace.keep_attention([0])
    assert trace.keep_attention().steps == (0, 1)
    assert len(trace.results(ImageAttention)) == 1


def test_large_ones_are_refused_before_they_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = dv.load()
    trace = dv.trace(pipe, "a red circle", seed=7, num_inference_steps=2)
    monkeypatch.setattr("diffvis_widget.traces.attended_positions.MOST_BYTES", 2**16)
    evaluated: list[int] = []
    handle = pipe.unet.register_forward_pre_hook(lambda *_: evaluated.append(1))
    with pytest.raises(ValueError, match=r"2 steps of 144 positions and 144 keys take"):
        trace.keep_attention()
    handle.remove()
    assert not evaluated


def test_the_page_has_them(tmp_path: Path) -> None:
    pipe = dv.load()
    trace = dv.trace(pipe, "a red circle", seed=7, num_inference_steps=2)
    without = dv.to_html(trace, tmp_path / "without.html").read_text(encoding="utf-8")
    trace.keep_attention()
    page = dv.to_html(trace, tmp_path / "page.html").read_text(encoding="utf-8")
    assert len(page) > len(without) + 2 * 144 * 144 * 2
    assert pipe is not None


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"steps": [0], "grid": [1], "reference_grids": []},
        {"steps": ["x"], "grid": [1, 2], "reference_grids": []},
        {"steps": [0], "grid": [1, 2], "reference_grids": [[0, 1]]},
    ],
)
def test_a_hostile_file_is_refused(header: dict[str, Any]) -> None:
    tensors = StoredTensors({"rows": np.zeros((1, 2, 2), np.float16)}, "image_attention")
    with pytest.raises(TraceFileError):
        ImageAttention.read(header, tensors)


def test_rows_of_another_shape_do_not_belong_to_the_run() -> None:
    trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
    wrong = ImageAttention((0,), (12, 12), (), np.zeros((1, 144, 100), np.float16))
    with pytest.raises(ValueError, match="rows are"):
        wrong.check(trace)
    with pytest.raises(ValueError, match="the run has 2"):
        ImageAttention((7,), (12, 12), (), None).check(trace)
