"""DeepFloyd IF: a U-Net that denoises pixels; image tokens attend to T5 and to the image in one softmax."""

from __future__ import annotations

from typing import Any

from torch import nn

from .family import Family, Modules
from .sequence_layouts import Spans
from .token_streams import TokenStream
from .unet import halved_grid, in_order_of_stages


def _attention(denoiser: nn.Module) -> Modules:
    modules = {
        name: module
        for name, module in denoiser.named_modules()
        if getattr(module, "added_kv_proj_dim", None) is not None and hasattr(module, "processor")
    }
    return in_order_of_stages(modules)


def _text_then_image(keys: int, text: int, image: int) -> Spans | None:
    """Text, then the image tokens of a layer, whose number is halved from stage to stage."""
    return (slice(0, text), slice(text, keys)) if text < keys else None


def _attends_to_both(pipe: Any) -> bool:
    """Kandinsky 2 has the same attention, to embeddings of images."""
    return getattr(pipe, "movq", None) is None and bool(_attention(pipe.unet))


FAMILY = Family(
    name="DeepFloyd IF",
    denoisers=("UNet2DConditionModel",),
    denoiser_attribute="unet",
    accepts=_attends_to_both,
    attention_modules=_attention,
    token_streams=(TokenStream(("tokenizer",)),),
    sequence_layout=_text_then_image,
    text_queries=False,
    grid_of=halved_grid,
)
