"""U-Nets with cross-attention: Stable Diffusion 1 and 2, SDXL, latent consistency models and their like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from diffvis_widget.traces import Layer
from diffvis_widget.traces.types import Size

from .family import Family, Modules
from .token_streams import TokenStream

_STAGES = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
_BLOCK_LISTS = ("attentions", "resnets", "downsamplers", "upsamplers")


def in_order_of_stages(modules: Modules) -> Modules:
    """Sort the modules of a U-Net in order of execution.

    Args:
        modules: By dotted path.

    Returns:
        Those of the down blocks, of the middle block and of the up blocks.
    """
    return dict(sorted(modules.items(), key=lambda item: _STAGES.get(item[0].split(".")[0], 1)))


def _cross_attention(denoiser: nn.Module) -> Modules:
    """Cross-attention modules; self-attention of the same class has no width of its own for the text."""
    modules = {
        name: module
        for name, module in denoiser.named_modules()
        if getattr(module, "is_cross_attention", False)
        and hasattr(module, "processor")
        and getattr(module, "added_kv_proj_dim", None) is None
    }
    return in_order_of_stages(modules)


def _self_attention(denoiser: nn.Module) -> Modules:
    """Self-attention of the transformer blocks."""
    modules = {
        name: module
        for name, module in denoiser.named_modules()
        if name.endswith(".attn1") and hasattr(module, "processor") and not getattr(module, "is_cross_attention", True)
    }
    return in_order_of_stages(modules)


def _stage_blocks(denoiser: nn.Module) -> Modules:
    """Attention, resnet, down- and upsampler blocks of all stages."""
    blocks = {
        f"{name}.{index}": block
        for name, module in denoiser.named_modules()
        if isinstance(module, nn.ModuleList) and name.split(".")[-1] in _BLOCK_LISTS
        for index, block in enumerate(module)
    }
    return dict(sorted(blocks.items(), key=lambda item: _STAGES.get(item[0].split(".")[0], 3)))


def halved_grid(positions: int, latent_size: Size, patch_size: int) -> Size | None:
    """The latent grid, halved until it has that many positions; diffusers rounds odd sides up or down by config.

    Args:
        positions: Number of image tokens.
        latent_size: (h, w) of the latents.
        patch_size: Not used.

    Returns:
        (h, w) of the grid, or None where none has that many positions.
    """
    for up in (1, 0):
        height, width = latent_size
        while height * width > positions:
            height, width = (height + up) // 2, (width + up) // 2
            if height * width in (positions, 0, 1):
                break
        if height * width == positions:
            return height, width
    return None


def _is_fine(layer: Layer, layers: Sequence[Layer]) -> bool:
    """Layers on grids of 64 positions or more; where there are none, those on the finest grid.

    Measured on the scenes model (`python -m diffvis_widget.scenes.evaluation.localization`): on 12 x 12 a word's
    attention inside its ground-truth mask is two to nine times that outside; on 6 x 6 and 3 x 3 it is hardly above
    chance.
    """
    finest = max(height * width for height, width in (other.grid for other in layers))
    return layer.grid[0] * layer.grid[1] >= min(64, finest)


def _keys(module: nn.Module, embeddings: Tensor) -> Tensor:
    """The keys of text embeddings (n, width) in a cross-attention layer, (heads, n, head width)."""
    attention: Any = module
    text = embeddings[None]
    if attention.norm_cross is not None:
        text = attention.norm_encoder_hidden_states(text)
    keys = attention.to_k(text).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
    return (keys if attention.norm_k is None else attention.norm_k(keys))[0]


FAMILY = Family(
    name="cross-attention U-Net",
    denoisers=("UNet2DConditionModel",),
    denoiser_attribute="unet",
    attention_kind="cross",
    attention_modules=_cross_attention,
    token_streams=(TokenStream(("tokenizer", "tokenizer_2")),),
    grid_of=halved_grid,
    self_attention=_self_attention,
    concept_keys=_keys,
    concept_template="a {}",
    is_default_layer=_is_fine,
    cam_layers=_stage_blocks,
    text_encoders=("text_encoder", "text_encoder_2"),
    freezable=True,
    batches_steps=True,
)
