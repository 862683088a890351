"""The snippets of the documentation about pipelines of each kind run, on tiny pipelines of the same classes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AdaptiveProjectedGuidance, StableDiffusionPipeline
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from diffusers.utils import convert_state_dict_to_diffusers

import diffvis_widget as dv
from tests import pipelines, pipelines_edit, pipelines_joint
from tests.pipelines_modular import STANDARD, modular
from tests.pipelines_video import VIDEOS
from tests.pipelines_video_frames import animatediff
from tests.snippets import headings, snippets

PAGE = "your-own-pipeline.md"
IMAGE: dict[str, Any] = {"height": 32, "width": 48}
VIDEO: dict[str, Any] = {**IMAGE, "num_frames": 9}
Make = Callable[[], dict[str, Any]]


def _modular(name: str) -> dict[str, Any]:
    kind, build, arguments, _ = STANDARD[name]
    pipe = modular(kind, build())
    size = {name: value for name, value in arguments.items() if name in pipe.default_call_parameters}
    size.pop("num_inference_steps", None)
    return {"pipe": pipe, "size": size}


def _editing() -> dict[str, Any]:
    case = pipelines_edit.EDITING["qwen-edit-plus"]
    images = case.arguments["image"]
    return {"pipe": case.build(), "images": images, "size": {"height": 32, "width": 48}}


def _quantised() -> dict[str, Any]:
    quantization = pytest.importorskip("torchao.quantization", reason="torchao is optional")
    return {
        "pipe": pipelines_joint.CASES["flux"].build(),
        "Int8WeightOnlyConfig": quantization.Int8WeightOnlyConfig,
        "quantize_": quantization.quantize_,
        "size": {**IMAGE, "max_sequence_length": 24},
    }


def _adapted() -> dict[str, Any]:
    """Stable Diffusion, and random LoRA weights for it in the working folder."""
    peft = pytest.importorskip("peft", reason="peft is optional")
    pipe = pipelines.stable_diffusion()
    torch.manual_seed(0)
    pipe.unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False))
    layers = convert_state_dict_to_diffusers(peft.get_peft_model_state_dict(pipe.unet))
    StableDiffusionPipeline.save_lora_weights(Path(), unet_lora_layers=layers, weight_name="style.safetensors")
    return {"pipe": pipelines.stable_diffusion(), "size": IMAGE}


KINDS: dict[str, tuple[str, Make]] = {
    "A standard pipeline": (
        "FluxPipeline",
        lambda: {"pipe": pipelines_joint.CASES["flux"].build(), "size": {**IMAGE, "max_sequence_length": 24}},
    ),
    "A modular pipeline": ("ModularPipeline", lambda: _modular("modular-qwen")),
    "A guider": (
        "StableDiffusionXLModularPipeline",
        lambda: {
            "pipe": modular("StableDiffusionXLModularPipeline", pipelines.stable_diffusion_xl()),
            "guider": AdaptiveProjectedGuidance(guidance_scale=6.0),
            "size": IMAGE,
        },
    ),
    "A video": (
        "LTXPipeline",
        lambda: {
            "pipe": VIDEOS["ltx"].build(),
            "size": {"height": 32, "width": 64, "num_frames": 17, "max_sequence_length": 24},
        },
    ),
    "A video from an image": (
        "WanImageToVideoPipeline",
        lambda: {
            "pipe": VIDEOS["wan-image"].build(),
            "image": VIDEOS["wan-image"].arguments["image"],
            "size": VIDEO,
        },
    ),
    "A video of frames with motion": (
        "AnimateDiffPipeline",
        lambda: {"pipe": animatediff(), "size": {"height": 16, "width": 24, "num_frames": 3}},
    ),
    "Several denoisers": (
        "WanPipeline",
        lambda: {"pipe": VIDEOS["wan-two"].build(), "size": {**VIDEO, "max_sequence_length": 24}},
    ),
    "Editing with reference images": ("QwenImageEditPlusPipeline", _editing),
    "Offloaded and stored in eight bits": (
        "StableDiffusion3Pipeline",
        lambda: {
            "pipe": pipelines_joint.CASES["sd3"].build(),
            "size": {**IMAGE, "max_sequence_length": 24},
            "device": torch.device("cpu"),
            "dtype": torch.float32,
        },
    ),
    "Quantised by torchao": ("FluxPipeline", _quantised),
    "LoRA": ("StableDiffusionPipeline", _adapted),
    "An attention backend": (
        "FluxPipeline",
        lambda: {
            "pipe": pipelines_joint.CASES["flux"].build(),
            "backend": "flex",
            "size": {**IMAGE, "max_sequence_length": 24},
        },
    ),
}


def test_every_kind_of_the_page_is_run() -> None:
    assert headings(PAGE, level=3) == list(KINDS)


@pytest.mark.filterwarnings("ignore:flex_attention called")
@pytest.mark.parametrize("kind", KINDS)
def test_a_snippet_runs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    backend = _AttentionBackendRegistry._active_backend
    monkeypatch.setattr(_AttentionBackendRegistry, "_active_backend", backend)  # set back after the snippet's change
    load, code = snippets(PAGE, kind, level=3)
    name, make = KINDS[kind]
    assert name in load
    made = make()
    if kind != "A modular pipeline":  # which is loaded by its base class
        assert type(made["pipe"]).__name__ == name
    variables = {variable for line in re.findall(r"^([\w, ]+) = ", load, re.MULTILINE) for variable in line.split(", ")}
    imported = {name for line in re.findall(r" import (.+)$", load, re.MULTILINE) for name in line.split(", ")}
    assert set(made) <= variables | imported
    names: dict[str, Any] = {"dv": dv, "torch": torch, **made}
    exec(re.sub(r"(num_inference_steps=|, )28\b", r"\g<1>2", code), names)
    trace = names["trace"]
    assert len(trace.steps) == 2
    assert trace.image.shape[:2] == (made["size"].get("height", 32), made["size"].get("width", 48))
    assert np.isfinite(trace.heat_maps()[[word.kind == "word" for word in trace.words]]).all()
    if kind == "A guider":
        assert trace.meta["guider"] == "AdaptiveProjectedGuidance"
    if kind == "Several denoisers":
        assert names["first"].shape == names["last"].shape
    if kind == "Editing with reference images":
        assert len(trace.references) == 2
        assert names["hat"].shape == trace.layers[0].reference_grids[1]
        assert 0 < names["hat"].sum() + names["words"].sum() < 1
    if kind == "LoRA":
        assert np.abs(names["change"]).max() > 1e-4
    if kind == "Quantised by torchao":
        assert type(made["pipe"].transformer.transformer_blocks[0].attn.to_q.weight).__module__.startswith("torchao")
