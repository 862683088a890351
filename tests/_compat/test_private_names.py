"""What is done where a later torch or diffusers lacks the private names that are used here."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from diffusers.models import attention_dispatch

from diffvis_widget._compat.diffusers_attention_backends import attention_backend
from diffvis_widget._compat.diffusers_devices import execution_device
from diffvis_widget._compat.torch_bfloat16 import supports_bfloat16
from diffvis_widget._compat.torch_compile import is_compiled, uncompiled
from diffvis_widget._compat.torch_sdp import chosen_kernel, fused_attention
from diffvis_widget.tracer import Tracer, log_sum_exp
from diffvis_widget.tracer.attention_calls import AttentionCall
from tests.pipelines_dit import FAMILIES


def traced(keep: Any = "heads") -> np.ndarray:
    case = FAMILIES["flux"]
    with Tracer(case.build(), keep=keep) as tracer:
        tracer.pipe("a red circle", **case.arguments, generator=torch.Generator().manual_seed(0))
    return tracer.trace.heat_maps()


@pytest.fixture
def without_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "aten", types.SimpleNamespace())
    monkeypatch.setattr(log_sum_exp, "_trusted", {})


@pytest.fixture
def without_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "_fused_sdp_choice")
    monkeypatch.setattr(log_sum_exp, "_trusted", {})


@pytest.mark.parametrize("missing", ["without_operators", "without_choice"])
def test_without_fused_operators_the_log_sum_exp_is_computed(missing: str, request: pytest.FixtureRequest) -> None:
    with_operators = traced()
    query, key, value = torch.randn(3, 1, 2, 9, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    kernel = chosen_kernel(query, key, value, None, None, False)
    assert fused_attention(query, key, value, None, None, kernel) is not None
    request.getfixturevalue(missing)
    kernel = chosen_kernel(query, key, value, None, None, False)
    assert fused_attention(query, key, value, None, None, kernel) is None
    output, values = log_sum_exp.attend(
        AttentionCall(query, key, value), lambda: F.scaled_dot_product_attention(query, key, value)
    )
    assert values is None
    assert torch.equal(output, F.scaled_dot_product_attention(query, key, value))
    np.testing.assert_allclose(traced(), with_operators, atol=2e-5, rtol=2e-3)


def test_an_operator_with_another_signature_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def choice(query: torch.Tensor) -> int:
        return 1

    monkeypatch.setattr(torch, "_fused_sdp_choice", choice)
    query = torch.randn(1, 2, 9, 8)
    assert chosen_kernel(query, query, query, None, None, False) is None


@pytest.mark.parametrize("missing", ["_AttentionBackendRegistry", "get_active_backend"])
def test_without_the_registry_a_backend_is_native(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = FAMILIES["flux"].build()
    processor = next(module.processor for module in pipe.transformer.modules() if hasattr(module, "processor"))
    assert attention_backend(processor) == "native"
    if missing == "get_active_backend":
        monkeypatch.delattr(attention_dispatch._AttentionBackendRegistry, missing)
    else:
        monkeypatch.delattr(attention_dispatch, missing)
    assert attention_backend(processor) == "native"


def test_a_processor_without_a_choice_is_native() -> None:
    assert attention_backend(None) == "native"
    assert attention_backend(object()) == "native"


def test_compiled_modules_are_recognised() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2))
    assert not is_compiled(module)
    whole: Any = torch.compile(module)
    assert is_compiled(whole)
    assert uncompiled(whole) is module
    module[0].compile()
    assert is_compiled(module)


def test_without_its_private_name_bfloat16_counts_as_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(supports_bfloat16(), bool)
    monkeypatch.setattr(torch.ops, "mkldnn", types.SimpleNamespace())
    assert supports_bfloat16() is False


def test_the_device_of_a_pipeline_is_that_of_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = FAMILIES["flux"].build()
    assert execution_device(pipe) == torch.device("cpu")
    assert not hasattr(pipe, "execution_device"), "diffusers has a public name now: use it in place of the private one"
    monkeypatch.delattr(DiffusionPipeline, "_execution_device")
    assert execution_device(pipe) == pipe.device
