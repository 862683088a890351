"""What is done to a denoiser from outside: it is noticed and traced right, or refused before the call is recorded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import attention_backend
from torch import Tensor, nn

from diffvis_widget._compat.torch_compile import is_compiled
from diffvis_widget.tracer import Tracer, fingerprint
from diffvis_widget.tracer import trace as make_trace
from tests import pipelines
from tests.pipelines_dit import FAMILIES
from tests.tracer.test_transparency import snapshot

PROMPT = "a red circle"


def generate(pipe: Any, steps: int = 2, **arguments: Any) -> Any:
    generator = torch.Generator().manual_seed(1)
    arguments |= {"num_inference_steps": steps, "generator": generator, "output_type": "np"}
    return pipe(PROMPT, **arguments).images


def compiled(function: Any) -> Any:
    return torch.compile(function, backend="eager", fullgraph=True)


def _compile_forward(pipe: Any) -> None:
    pipe.unet.forward = compiled(pipe.unet.forward)


def _compile_wrapped_forward(pipe: Any) -> None:
    pipe.unet.forward = functools.partial(compiled(pipe.unet.forward))


def _compile_block(pipe: Any) -> None:
    block = pipe.unet.mid_block.attentions[0]
    block.forward = compiled(block.forward)


def _compile_class(pipe: Any) -> None:
    class Compiled(type(pipe.unet)):
        forward = compiled(type(pipe.unet).forward)

    pipe.unet.__class__ = Compiled


def _compile_processor(pipe: Any) -> None:
    attention = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    attention.processor = compiled(attention.processor)


@pytest.mark.parametrize(
    "compile_part", [_compile_forward, _compile_wrapped_forward, _compile_block, _compile_class, _compile_processor]
)
def test_compiled_functions_inside_a_denoiser_are_noticed(compile_part: Callable[[Any], None]) -> None:
    pipe = pipelines.stable_diffusion()
    plain = generate(pipe, 1)
    compile_part(pipe)
    assert is_compiled(pipe.unet)
    with pytest.raises(ValueError, match='compiled="eager"'), Tracer(pipe):
        pass
    with pytest.warns(UserWarning, match="runs uncompiled"), Tracer(pipe, compiled="eager") as tracer:
        images = generate(pipe, 1)
    assert np.array_equal(images, plain)
    assert len(tracer.trace.layers) == 7


def test_a_function_that_is_kept_from_being_compiled_does_not_count() -> None:
    pipe = pipelines.stable_diffusion()
    pipe.unet.forward = torch.compiler.disable(pipe.unet.forward)
    assert not is_compiled(pipe.unet)


def test_a_denoiser_compiled_inside_the_block_is_not_recorded() -> None:
    pipe = pipelines.stable_diffusion()
    plain = generate(pipe, 1)
    tracer = Tracer(pipe)

    def compile_inside() -> Any:
        with tracer:
            _compile_block(pipe)
            return generate(pipe, 1)

    with pytest.warns(UserWarning, match="compiled by torch.compile inside the with block"):
        images = compile_inside()
    assert np.array_equal(images, plain)
    assert tracer.traces == []


@pytest.mark.filterwarnings("ignore:flex_attention called")
def test_an_attention_backend_chosen_inside_the_block_is_read() -> None:
    case = FAMILIES["flux"]
    pipe = case.build()
    with Tracer(pipe) as tracer:
        before = generate(pipe, **case.arguments)
        with attention_backend("flex"):
            generate(pipe, **case.arguments)
        after = generate(pipe, **case.arguments)
    assert np.array_equal(before, after)
    first, flex, last = tracer.traces
    assert [len(trace.steps) for trace in tracer.traces] == [2, 2, 2]
    np.testing.assert_allclose(flex.heat_maps(), first.heat_maps(), atol=1e-3)
    np.testing.assert_array_equal(last.heat_maps(), first.heat_maps())


def test_processors_that_hide_attention_from_the_second_step_on_end_the_recording() -> None:
    from diffusers.models.attention_processor import XFormersAttnProcessor

    class XFormersOfMine(XFormersAttnProcessor):
        def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return hidden_states

    def hide(pipe: Any, *rest: Any) -> dict[str, Any]:
        pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2.set_processor(XFormersOfMine())
        return {}

    pipe = pipelines.stable_diffusion()
    with pytest.warns(UserWarning, match="XFormersOfMine"), Tracer(pipe) as tracer:
        generate(pipe, 3, callback_on_step_end=hide)
    assert [len(trace.steps) for trace in tracer.traces] == [1]
    assert not tracer.traces[0].is_complete


def merging(share: int) -> Callable[..., Callable[..., Tensor]]:
    """A block that merges `share` neighbouring image tokens before its cross-attention, as token merging does."""

    def around(attention: Any) -> Callable[..., Tensor]:
        forward = attention.forward

        def merged(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            count = hidden_states.shape[1]
            tokens = hidden_states.unflatten(1, (count // share, share)).mean(dim=2)
            return forward(tokens, *args, **kwargs).repeat_interleave(share, dim=1)

        return merged

    return around


@pytest.mark.parametrize("share", [2, 4])
@pytest.mark.parametrize("layers", ["all", "the first"])
def test_merged_tokens_are_refused_before_the_first_step(share: int, layers: str) -> None:
    pipe = pipelines.stable_diffusion()
    names = [name for name, module in pipe.unet.named_modules() if name.endswith(".attn2")]
    for name in names if layers == "all" else names[:1]:
        attention = pipe.unet.get_submodule(name)
        block = pipe.unet.get_submodule(name.rpartition(".")[0])
        block.attn2.forward = merging(share)(attention)
    plain, before = generate(pipe), snapshot(pipe)
    with pytest.warns(UserWarning, match="tokens are merged or dropped"), Tracer(pipe) as tracer:
        images = generate(pipe)
    assert np.array_equal(images, plain)
    assert tracer.traces == []
    assert snapshot(pipe) == before
    steps: list[int] = []
    with pytest.raises(RuntimeError, match="tokens are merged or dropped"):
        make_trace(pipe, PROMPT, num_inference_steps=2, callback_on_step_end=lambda *rest: steps.append(1) or {})
    assert steps == []


def test_merging_that_begins_in_the_middle_of_a_run_ends_the_recording() -> None:
    pipe = pipelines.stable_diffusion()
    attention: Any = pipe.unet.get_submodule("down_blocks.0.attentions.0.transformer_blocks.0.attn2")

    def merge(*rest: Any) -> dict[str, Any]:
        attention.forward = merging(4)(attention) if "forward" not in vars(attention) else attention.forward
        return {}

    with pytest.warns(UserWarning, match="tokens are merged or dropped"), Tracer(pipe) as tracer:
        generate(pipe, 3, callback_on_step_end=merge)
    assert [len(trace.steps) for trace in tracer.traces] == [1]


def test_image_tokens_dropped_from_some_joint_layers_are_refused() -> None:
    case = FAMILIES["flux"]
    pipe = case.build()
    attention: Any = next(module for name, module in pipe.transformer.named_modules() if name.endswith(".attn"))
    original = F.scaled_dot_product_attention

    class Pruning(type(attention.processor)):
        """Drops the last four keys: the image's."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            inner = F.scaled_dot_product_attention

            def pruned(query: Tensor, key: Tensor, value: Tensor, **more: Any) -> Tensor:
                return inner(query, key[:, :, :-4], value[:, :, :-4], **more)

            F.scaled_dot_product_attention = pruned
            try:
                return super().__call__(*args, **kwargs)
            finally:
                F.scaled_dot_product_attention = inner

    attention.processor = Pruning()
    plain = generate(pipe, **case.arguments)
    with pytest.warns(UserWarning, match="tokens are merged or dropped"), Tracer(pipe) as tracer:
        images = generate(pipe, **case.arguments)
    assert np.array_equal(images, plain)
    assert tracer.traces == []
    assert F.scaled_dot_product_attention is original


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor")
def test_a_dynamically_quantized_denoiser_is_traced() -> None:
    pipe = pipelines.stable_diffusion()
    torch.ao.quantization.quantize_dynamic(pipe.unet, {nn.Linear}, dtype=torch.qint8, inplace=True)
    plain = generate(pipe)
    with Tracer(pipe) as tracer:
        images = generate(pipe)
    assert np.array_equal(images, plain)
    assert len(tracer.trace.layers) == 7
    assert len(fingerprint(pipe)) == 16


class Packed(Tensor):
    """A weight that gives its values to nothing but a matrix product, as packed quantized weights do."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.flatten:
            raise NotImplementedError(f"{func} is not implemented for packed weights")
        result: Any = super().__torch_function__(func, types, args, kwargs or {})
        return result.as_subclass(Tensor) if func is F.linear else result


@pytest.mark.parametrize("kind", ["subclass", "uint8", "float8"])
def test_quantized_weights_do_not_end_the_run(kind: str) -> None:
    pipe = pipelines.stable_diffusion()
    layer = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_q
    weight = layer.weight.detach()
    if kind == "subclass":
        layer.weight = nn.Parameter(weight.as_subclass(Packed), requires_grad=False)
    else:
        stored = (weight * 20 + 128).to(torch.uint8) if kind == "uint8" else weight.to(torch.float8_e4m3fn)

        def forward(states: Tensor) -> Tensor:
            weight = (layer.weight.float() - 128) / 20 if kind == "uint8" else layer.weight.float()
            return F.linear(states, weight, layer.bias)

        layer.weight = nn.Parameter(stored, requires_grad=False)
        layer.forward = forward
    plain = generate(pipe)
    with Tracer(pipe) as tracer:
        images = generate(pipe)
    assert np.array_equal(images, plain)
    assert len(tracer.trace.layers) == 7
    assert fingerprint(pipe) == fingerprint(pipe) == tracer.trace.meta["fingerprint"]
