"""Attention backends of diffusers: the image is the backend's own, the maps are a softmax of the real q and k."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from torch import Tensor

import diffvis_widget as dv
from diffvis_widget.tracer import Tracer
from tests.pipelines_dit import FAMILIES
from tests.tracer.reference import assert_stored

PROMPT = "A tiny red circle, above a blue square"


class OwnBackend:
    """A backend that somebody registers: a softmax in float64, which notes what it gets.

    Args:
        uses_torch: whether it ends in torch's attention function instead.
    """

    def __init__(self, uses_torch: bool = False) -> None:
        self.uses_torch = uses_torch
        self.calls: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, scale: float | None = None
    ) -> Tensor:
        q, k, v = (tensor.transpose(1, 2) for tensor in (query, key, value))
        self.calls.append((q.clone(), k.clone(), None if attn_mask is None else attn_mask.clone()))
        if self.uses_torch:
            output = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, scale=scale)
            return output.transpose(1, 2)
        return (self.probabilities(len(self.calls) - 1) @ v.double()).to(query.dtype).transpose(1, 2)

    def probabilities(self, call: int) -> Tensor:
        """float64 (batch, heads, queries, keys)."""
        query, key, mask = self.calls[call]
        scores = query.double() @ key.double().transpose(-1, -2) * query.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        return torch.softmax(scores, dim=-1)


@pytest.fixture
def registry() -> Iterator[Any]:
    """The registry of diffusers, which is set back, and so is the backend of all models."""
    parts = ("_backends", "_constraints", "_supported_arg_names")
    before = {part: dict(getattr(_AttentionBackendRegistry, part)) for part in parts}
    active = _AttentionBackendRegistry._active_backend
    yield _AttentionBackendRegistry
    _AttentionBackendRegistry._active_backend = active
    for part, values in before.items():
        getattr(_AttentionBackendRegistry, part).clear()
        getattr(_AttentionBackendRegistry, part).update(values)


def call(pipe: Any, name: str) -> Any:
    arguments = {"prompt": PROMPT, "output_type": "np"} | FAMILIES[name].arguments
    return np.asarray(pipe(**arguments, generator=torch.Generator().manual_seed(1)).images)


@pytest.mark.parametrize("uses_torch", [False, True])
@pytest.mark.parametrize(
    "key", ["mine", AttentionBackendName.SAGE, AttentionBackendName.FLASH, AttentionBackendName.NATIVE]
)
def test_a_registered_backend_answers_and_is_read(registry: Any, key: Any, uses_torch: bool) -> None:
    backend = OwnBackend(uses_torch)
    registry.register(key)(backend.attend)
    registry.set_active_backend(key)
    functions = dict(registry._backends)
    pipe = FAMILIES["flux"].build()
    plain = call(pipe, "flux")
    backend.calls.clear()
    with Tracer(pipe, keep="heads") as tracer:
        traced = call(pipe, "flux")
    assert np.array_equal(plain, traced)
    assert registry._backends == functions  # everything came off
    trace = tracer.trace
    assert len(backend.calls) == len(trace.layers) * len(trace.steps)
    text = 1 + max(position for word in trace.words for position in word.tokens)
    for step, record in enumerate(trace.records):
        for index, layer in enumerate(trace.layers):
            shares = backend.probabilities(step * len(trace.layers) + index)[-1, :, text:].numpy()
            for place, word in enumerate(trace.words):
                if word.kind != "padding":
                    attended = shares[:, :, list(word.tokens)].sum(axis=-1).reshape(-1, *layer.grid)
                    assert_stored(record.maps[index][:, place], attended, 1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called")
@pytest.mark.parametrize("backend", ["flex", "_native_math"])
def test_backends_of_diffusers_give_the_maps_of_the_native_one(registry: Any, backend: str) -> None:
    pipe = FAMILIES["flux"].build()
    with Tracer(pipe) as native:
        call(pipe, "flux")
    pipe.transformer.set_attention_backend(backend)
    plain = call(pipe, "flux")
    with Tracer(pipe) as tracer:
        traced = call(pipe, "flux")
    assert np.array_equal(plain, traced)
    np.testing.assert_allclose(tracer.trace.heat_maps(), native.trace.heat_maps(), atol=1e-3)


def test_an_intervention_changes_what_another_backend_computes(registry: Any) -> None:
    pipe = FAMILIES["flux"].build()
    expected = dv.trace(pipe, PROMPT, seed=1, interventions=[dv.intervene.weight("circle", 3.0)], **short("flux"))
    backend = OwnBackend()
    registry.register("mine")(backend.attend)
    registry.set_active_backend("mine")
    changed = dv.trace(pipe, PROMPT, seed=1, interventions=[dv.intervene.weight("circle", 3.0)], **short("flux"))
    plain = dv.trace(pipe, PROMPT, seed=1, **short("flux"))
    np.testing.assert_allclose(changed.latents, expected.latents, atol=1e-4)
    assert np.abs(changed.latents[-1] - plain.latents[-1]).max() > 1e-3


def test_leaving_a_word_out_says_where_a_backend_takes_no_mask(registry: Any) -> None:
    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (tensor.transpose(1, 2) for tensor in (query, key, value))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    registry.register("maskless")(attend)
    registry.set_active_backend("maskless")
    pipe = FAMILIES["flux"].build()
    with pytest.raises(ValueError, match=r"takes no mask.*set_attention_backend\(\"native\"\)"):
        dv.trace(pipe, PROMPT, seed=1, interventions=[dv.intervene.drop("circle")], **short("flux"))


def test_a_mask_that_cannot_be_read_ends_the_recording_not_the_call(registry: Any) -> None:
    class Blocks:
        pass

    backend = OwnBackend()

    def attend(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None) -> Tensor:
        return backend.attend(query, key, value)

    registry.register("blocks")(attend)
    registry.set_active_backend("blocks")
    pipe = FAMILIES["flux"].build()
    plain = call(pipe, "flux")
    function = registry._backends["blocks"]
    registry._backends["blocks"] = lambda **kwargs: function(**kwargs)
    for module in pipe.transformer.modules():
        if hasattr(module, "processor"):
            module.register_forward_pre_hook(
                lambda module, args, kwargs: (args, {**kwargs, "attention_mask": Blocks()}), with_kwargs=True
            )
    with pytest.warns(UserWarning, match="gets a Blocks as its mask"), Tracer(pipe):
        traced = call(pipe, "flux")
    assert np.array_equal(plain, traced)


def short(name: str) -> dict[str, Any]:
    """The arguments of a family's call, for `dv.trace`."""
    return {key: value for key, value in FAMILIES[name].arguments.items() if key not in {"prompt", "generator"}}
