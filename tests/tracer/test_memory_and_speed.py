"""What saves a denoiser memory or time: the image is the same with and without a trace, and maps are of what ran."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import MagCacheConfig, TaylorSeerCacheConfig

from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.families import find_family
from tests import pipelines
from tests.pipelines_dit import FAMILIES
from tests.tracer.recorder import recording

PROMPT = "a red circle above a blue square"
CPU = torch.device("cpu")


def build(name: str) -> tuple[Any, dict[str, Any]]:
    if name == "sd":
        return pipelines.stable_diffusion(), {}
    return FAMILIES[name].build(), FAMILIES[name].arguments


def call(pipe: Any, arguments: dict[str, Any], steps: int = 3, **more: Any) -> Any:
    options = {**arguments, "prompt": PROMPT, "output_type": "np", "num_inference_steps": steps, **more}
    return np.asarray(pipe(**options, generator=torch.Generator().manual_seed(1)).images)


def by_block(denoiser: Any) -> None:
    denoiser.enable_group_offload(CPU, CPU, offload_type="block_level", num_blocks_per_group=1)


def by_leaf(denoiser: Any) -> None:
    denoiser.enable_group_offload(CPU, CPU, offload_type="leaf_level")


def in_float8(denoiser: Any) -> None:
    denoiser.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)


@pytest.mark.parametrize("technique", [by_block, by_leaf, in_float8])
@pytest.mark.parametrize("name", ["sd", "flux"])
def test_offloaded_groups_and_stored_float8_are_traced(name: str, technique: Callable[[Any], None]) -> None:
    pipe, arguments = build(name)
    denoiser: Any = find_family(pipe)[1]
    technique(denoiser)
    check(pipe, arguments)


def check(pipe: Any, arguments: dict[str, Any]) -> Any:
    """The same image twice, and the maps of cross-attention those of a naive softmax over the recorded q and k."""
    denoiser: Any = find_family(pipe)[1]
    with recording(denoiser) as calls:
        plain = call(pipe, arguments)
    with Tracer(pipe, keep="layers") as tracer:
        traced = call(pipe, arguments)
    assert np.array_equal(plain, traced)
    assert np.array_equal(call(pipe, arguments), plain)
    trace = tracer.trace
    for index, layer in enumerate(trace.layers):
        assert len(calls[layer.name]) == len(trace.steps)
        shares = calls[layer.name][-1].probabilities(len(calls[layer.name][-1].query) - 1)
        tokens = trace.words[2].tokens
        places = shares.shape[1] - layer.grid[0] * layer.grid[1]  # the text comes first where both attend together
        expected = shares[:, places:, list(tokens)].sum(axis=-1).mean(axis=0).reshape(layer.grid)
        np.testing.assert_allclose(trace.heat_map(2, step=2, layer=index), expected, atol=1e-3)
    return trace


CACHES = {
    "taylor": TaylorSeerCacheConfig(cache_interval=3, disable_cache_before_step=2, max_order=1),
    "magnitude": MagCacheConfig(threshold=10.0, num_inference_steps=6, retention_ratio=0.2, mag_ratios=torch.ones(6)),
}


@pytest.mark.parametrize("cache", CACHES)
def test_cached_steps_show_the_maps_that_were_computed_last(cache: str) -> None:
    pipe, arguments = build("flux")
    pipe.transformer.enable_cache(CACHES[cache])
    plain = call(pipe, arguments, steps=6)
    with recording(pipe.transformer) as calls:
        again = call(pipe, arguments, steps=6)
    with Tracer(pipe) as tracer:
        traced = call(pipe, arguments, steps=6)
    assert np.array_equal(plain, again)
    assert np.array_equal(plain, traced)
    trace = tracer.trace
    for index, layer in enumerate(trace.layers):
        assert (~trace.reused[:, index]).sum() == len(calls.get(layer.name, ())), layer.name
    for step, index in np.argwhere(trace.reused):
        np.testing.assert_array_equal(
            trace.heat_maps(step=int(step), layer=int(index)), trace.heat_maps(step=int(step) - 1, layer=int(index))
        )
    assert np.isfinite(trace.heat_map("circle")).all()


@pytest.mark.parametrize("name", ["sd", "flux"])
def test_compiled_blocks_are_refused_or_run_uncompiled(name: str) -> None:
    pipe, arguments = build(name)
    denoiser: Any = find_family(pipe)[1]
    plain = call(pipe, arguments, steps=2)
    denoiser.compile_repeated_blocks(backend="eager")
    with pytest.raises(ValueError, match='compiled="eager"'), Tracer(pipe):
        pass
    with pytest.warns(UserWarning, match="runs uncompiled"), Tracer(pipe, compiled="eager") as tracer:
        traced = call(pipe, arguments, steps=2)
    assert np.array_equal(plain, traced)
    assert len(tracer.trace.layers) > 0


def test_weights_that_torchao_quantized_are_traced() -> None:
    quantization = pytest.importorskip("torchao.quantization", reason="torchao is optional")
    pipe, arguments = build("sd")
    quantization.quantize_(pipe.unet, quantization.Int8WeightOnlyConfig())
    check(pipe, arguments)


@pytest.mark.parametrize("name", ["sd", "flux"])
def test_an_adapter_is_swapped_between_runs_and_in_the_middle_of_one(name: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is optional")
    pipe, arguments = build(name)
    denoiser: Any = find_family(pipe)[1]
    folders: list[Path] = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        config = peft.LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False)
        denoiser.add_adapter(config, adapter_name="style")
        folders.append(tmp_path / str(seed))
        denoiser.save_lora_adapter(folders[-1], adapter_name="style")
        denoiser.delete_adapters("style")
    without = call(pipe, arguments)

    def load(folder: Path, hotswap: bool) -> None:
        name = "pytorch_lora_weights.safetensors"
        denoiser.load_lora_adapter(str(folder), prefix=None, adapter_name="style", hotswap=hotswap, weight_name=name)

    load(folders[0], hotswap=False)
    first = check(pipe, arguments)
    load(folders[1], hotswap=True)
    second = check(pipe, arguments)
    assert not np.array_equal(call(pipe, arguments), without)
    assert not np.array_equal(first.latents, second.latents)

    def swap(pipe: Any, index: int, *rest: Any) -> dict[str, Any]:
        load(folders[index % 2], hotswap=True)
        return {}

    load(folders[1], hotswap=True)
    plain = call(pipe, arguments, callback_on_step_end=swap)
    load(folders[1], hotswap=True)
    with Tracer(pipe) as tracer:
        traced = call(pipe, arguments, callback_on_step_end=swap)
    assert np.array_equal(plain, traced)
    np.testing.assert_array_equal(tracer.trace.heat_maps(step=0), second.heat_maps(step=0))
    assert not np.array_equal(tracer.trace.heat_maps(step=1), second.heat_maps(step=1))
