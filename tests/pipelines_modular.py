"""Tiny modular pipelines: the parts of the standard ones, called by blocks.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch

from tests import pipelines, pipelines_chat, pipelines_joint, pipelines_more, pipelines_recent
from tests import tiny_parts as parts
from tests import tiny_tokenizers as tokenizers
from tests.tiny_eyes import qwen3_vision_with_head
from tests.tiny_parts import quiet, stirred


def with_parts(pipe: Any, whole: Any, **parts: Any) -> Any:
    """A modular pipeline, given those parts of a standard one that it takes.

    Args:
        pipe: The modular pipeline.
        whole: The standard pipeline.
        **parts: Further components, such as a guider.
    """
    shared = {
        part: value for part, value in whole.components.items() if part in pipe.component_names and value is not None
    }
    pipe.update_components(**shared, **parts)
    return quiet(pipe)


def modular(name: str, whole: Any, **parts: Any) -> Any:
    """A modular pipeline of the default blocks of its class, see `with_parts`."""
    return with_parts(getattr(diffusers, name)(), whole, **parts)


# the standard pipeline, its arguments for a fast run, and how the standard pipeline is guided as the guider guides
STANDARD: dict[str, tuple[str, Callable[[], Any], dict[str, Any], dict[str, Any]]] = {
    "modular-sdxl": (
        "StableDiffusionXLModularPipeline",
        pipelines.stable_diffusion_xl,
        {"height": 32, "width": 48},
        {"guidance_scale": 7.5},
    ),
    **{
        f"modular-{name}": (kind, case.build, case.arguments, guidance)
        for name, kind, case, guidance in [
            ("sd3", "StableDiffusion3ModularPipeline", pipelines_joint.CASES["sd3"], {"guidance_scale": 7.0}),
            ("flux", "FluxModularPipeline", pipelines_joint.CASES["flux"], {}),
            ("kontext", "FluxKontextModularPipeline", pipelines_more.CASES["flux-kontext"], {}),
            ("qwen", "QwenImageModularPipeline", pipelines_joint.CASES["qwen"], {"true_cfg_scale": 4.0}),
            ("z-image", "ZImageModularPipeline", pipelines_chat.CASES["z-image"], {"guidance_scale": 0.0}),
            ("flux2", "Flux2ModularPipeline", pipelines_chat.CASES["flux2"], {}),
            ("klein", "Flux2KleinBaseModularPipeline", pipelines_chat.CASES["flux2-klein"], {"guidance_scale": 4.0}),
            ("klein-distilled", "Flux2KleinModularPipeline", pipelines_chat.CASES["flux2-klein-distilled"], {}),
        ]
    },
}


def anima(seed: int = 0) -> Any:
    """Anima in small: Qwen's states fill the tokens of T5, which a Cosmos transformer attends to."""
    torch.manual_seed(seed)
    qwen, t5 = tokenizers.qwen(), tokenizers.t5(512)
    conditioner = diffusers.AnimaTextConditioner(
        source_dim=32,
        target_dim=32,
        model_dim=32,
        num_layers=1,
        num_attention_heads=4,
        target_vocab_size=len(t5),
        min_sequence_length=24,
    )
    transformer = diffusers.CosmosTransformer3DModel(
        in_channels=16,
        out_channels=16,
        num_attention_heads=4,
        attention_head_dim=12,
        num_layers=2,
        mlp_ratio=2,
        text_embed_dim=32,
        adaln_lora_dim=8,
        max_size=(4, 32, 32),
        extra_pos_embed_type=None,
    )
    pipe: Any = diffusers.AnimaModularPipeline()
    pipe.update_components(
        text_encoder=parts.qwen3(qwen, seed=seed).model,
        tokenizer=qwen,
        t5_tokenizer=t5,
        text_conditioner=stirred(conditioner, seed),
        transformer=stirred(transformer, seed, {"norm_q": 2}),
        vae=parts.qwen_vae(seed),
        scheduler=parts.flow(),
    )
    return quiet(pipe)


def flux3(seed: int = 0, distilled: bool = False) -> Any:
    """FLUX.3 in small: text and image each in blocks of their own, then one sequence."""
    torch.manual_seed(seed)
    tokenizer = tokenizers.qwen()
    transformer = diffusers.Flux3Transformer2DModel(
        in_channels=128,
        cond_in_channels=128,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=64,
        timestep_channels=32,
        mlp_ratio=2.0,
        axes_dims_rope=(4, 4, 4, 4),
        flow_map=distilled,
    )
    whole: Any = diffusers.Flux3DistilledModularPipeline() if distilled else diffusers.Flux3ModularPipeline()
    blocks = whole.blocks
    blocks.sub_blocks.pop("prompt_upsampler")  # a language model of nine billion parameters
    pipe = blocks.init_pipeline()
    pipe.update_components(
        text_encoder=qwen3_vision_with_head(tokenizer, layers=2, seed=seed),
        tokenizer=pipelines_recent.qwen3_processor(tokenizer),
        transformer=stirred(transformer, seed, {"norm_q": 2}),
        vae=parts.flux2_vae(seed),
        scheduler=parts.flow(),
    )
    return quiet(pipe)


_SIZE: dict[str, Any] = {"height": 32, "width": 48}
_LAYERS: dict[str, Any] = {**_SIZE, "text_encoder_out_layers": (1, 2)}
_WIDE: dict[str, Any] = {"height": 96, "width": 160}

# modular pipelines whose maps are compared with a naive softmax
NAIVE: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "modular-anima": (anima, {**_SIZE, "negative_prompt": "blue fog"}),
    "modular-flux3": (flux3, {**_LAYERS, "negative_prompt": "blue fog"}),
    "modular-flux3-distilled": (lambda: flux3(distilled=True), _LAYERS),
    "modular-krea2": (
        lambda: modular("Krea2ModularPipeline", pipelines_more.krea2(layers=36)),
        {**_SIZE, "negative_prompt": "blue fog", "max_sequence_length": 64},
    ),
    "modular-ideogram4": (
        lambda: modular("Ideogram4ModularPipeline", pipelines_recent.ideogram_4()),
        {**_SIZE, "max_sequence_length": 40, "guidance_schedule": [4.0] * 3},
    ),
    "modular-qwen-2.1": (
        lambda: modular(
            "QwenImage21ModularPipeline",
            pipelines_recent.qwen_image_21(),
            guider=diffusers.ClassifierFreeGuidance(guidance_scale=4.0),
        ),
        {**_WIDE, "negative_prompt": "blue fog"},
    ),
    "modular-qwen-2.1-turbo": (
        lambda: modular("QwenImage21TurboModularPipeline", pipelines_recent.qwen_image_21()),
        _WIDE,
    ),
    "modular-ernie": (
        lambda: modular("ErnieImageModularPipeline", pipelines_recent.ernie_image()),
        {**_SIZE, "negative_prompt": "blue fog"},
    ),
}
