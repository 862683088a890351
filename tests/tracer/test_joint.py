"""Joint attention beside what people do to their pipelines: other backends, fused projections, half precision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from diffvis_widget.tracer import Tracer
from tests.pipelines_dit import FAMILIES
from tests.tracer.recorder import recording
from tests.tracer.reference import assert_stored

PROMPT = "A tiny red circle, above a blue square"


def call(pipe: Any, name: str = "flux", **more: Any) -> Any:
    arguments = {"prompt": PROMPT, "output_type": "np"} | FAMILIES[name].arguments | more
    return np.asarray(pipe(**arguments, generator=torch.Generator().manual_seed(1)).images)


def check(pipe: Any, name: str = "flux", tolerance: float = 1e-5) -> None:
    """The image unchanged, and every map of every step that of a naive softmax."""
    with recording(pipe.transformer) as calls:
        plain = call(pipe, name)
    with Tracer(pipe, keep="heads") as tracer:
        traced = call(pipe, name)
    assert np.array_equal(plain, traced)
    trace = tracer.trace
    text = 1 + max(position for word in trace.words for position in word.tokens)
    for index, layer in enumerate(trace.layers):
        for step, attention in enumerate(calls[layer.name]):
            shares = attention.probabilities(len(attention.query) - 1)
            length = shares.shape[1]
            for place, word in enumerate(trace.words):
                if word.kind == "padding":
                    continue
                if name == "flux":
                    attended = shares[:, text:][:, :, list(word.tokens)]
                else:
                    attended = shares[:, : length - text][:, :, [length - text + token for token in word.tokens]]
                stored = trace.records[step].maps[index][:, place]
                assert_stored(stored, attended.sum(axis=-1).reshape(-1, *layer.grid), tolerance)


@pytest.fixture
def flux() -> Iterator[Any]:
    """A backend chosen for one model becomes that of all: it is set back."""
    pipe = FAMILIES["flux"].build()
    yield pipe
    pipe.transformer.set_attention_backend("native")


@pytest.mark.parametrize("backend", ["native", "_native_math"])
def test_attention_backends(backend: str, flux: Any) -> None:
    flux.transformer.set_attention_backend(backend)
    check(flux)


def test_fused_projections(flux: Any) -> None:
    flux.transformer.fuse_qkv_projections()
    check(flux)


@pytest.mark.parametrize("name", ["flux", "sd3"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    pipe = FAMILIES[name].build().to(dtype)
    check(pipe, name, tolerance=1e-3)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch, on its own autocast
def test_autocast() -> None:
    pipe = FAMILIES["flux"].build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        check(pipe, tolerance=1e-3)


def test_nested_tracers_see_the_same() -> None:
    pipe = FAMILIES["flux"].build()
    plain = call(pipe)
    with Tracer(pipe) as outer, Tracer(pipe, keep="heads") as inner:
        traced = call(pipe)
    assert np.array_equal(plain, traced)
    np.testing.assert_allclose(outer.trace.heat_maps(), inner.trace.heat_maps(), atol=1e-3)


def test_somebody_elses_replacement_sees_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = FAMILIES["flux"].build()
    original = torch.nn.functional.scaled_dot_product_attention
    seen: list[int] = []

    def mine(*args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", mine)
    call(pipe)
    plain = len(seen)
    with Tracer(pipe) as tracer:
        call(pipe)
    assert len(seen) == 2 * plain
    assert tracer.trace.heat_map("circle").max() > 0
