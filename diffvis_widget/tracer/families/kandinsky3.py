"""Kandinsky 3: cross-attention of a U-Net to T5, cut behind the longest prompt."""

from __future__ import annotations

from torch import nn

from .family import Family, Modules
from .kandinsky import movq, unscaled
from .token_streams import TokenStream, padded_behind
from .unet import halved_grid, in_order_of_stages


def _attention_to_text(denoiser: nn.Module) -> Modules:
    """The first attention of a block is the image's with itself; each of the others is one with the text."""
    blocks = {
        name: block for name, block in denoiser.named_modules() if getattr(block, "context_dim", None) is not None
    }
    modules: Modules = {
        f"{name}.attentions.{index}.attention": attention.attention
        for name, block in blocks.items()
        for index, attention in list(enumerate(getattr(block, "attentions", ())))[1:]
    }
    return in_order_of_stages(modules)


def _self_attention(denoiser: nn.Module) -> Modules:
    modules = {name: module for name, module in denoiser.named_modules() if name.endswith(".attentions.0.attention")}
    return in_order_of_stages(modules)


def _block_of(name: str) -> str:
    """A block attends among its positions once, and to the text as often as it has residual networks."""
    return name.partition(".attentions.")[0]


FAMILY = Family(
    name="Kandinsky 3",
    denoisers=("Kandinsky3UNet",),
    denoiser_attribute="unet",
    attention_kind="cross",
    attention_modules=_attention_to_text,
    self_attention=_self_attention,
    block_of=_block_of,
    token_streams=(TokenStream(("tokenizer",), select=padded_behind),),
    grid_of=halved_grid,
    vae_of=movq,
    scale_for_vae=unscaled,
    decode_arguments={"force_not_quantize": True},
)
