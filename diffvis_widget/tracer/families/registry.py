"""What differs from one model family to the next, a few lines each: where its words meet the image.

To add a family: an entry in `FAMILIES` that names the denoiser's class, its word-attention modules, the argument that
carries the text, the tokenizers whose words that text is, and (joint attention) where the text lies in the keys.
`tests/tracer/test_families.py` then proves it against a naive softmax.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from diffvis_widget.traces import Layer

from . import sequence_layouts as layouts
from .token_streams import Stream, after_beginning, after_template, attended, first_and_last, padded_before

Size = tuple[int, int]


@dataclass(frozen=True)
class Family:
    """How to read one kind of denoiser."""

    name: str
    models: tuple[str, ...]
    """Class names of the denoisers; a subclass counts too."""
    sites: Callable[[nn.Module], dict[str, nn.Module]]
    """The modules in which image positions attend to the prompt, by dotted path, in order of execution."""
    streams: tuple[Stream, ...]
    """The tokenizers whose tokens make up the text keys, in their order."""
    kind: Literal["cross", "joint"] = "joint"
    denoiser: str = "transformer"
    """Attribute of the pipeline that holds the denoiser."""
    text: str = "encoder_hidden_states"
    """Argument of the denoiser's forward that carries the text embeddings, one row per row of the batch."""
    encoded: tuple[int, int | None] = (0, 1)
    """Where `encode_prompt` returns the prompt's and the negative prompt's embeddings; None: by a call of its own."""
    calls: int = 1
    """How many calls of `encode_prompt` encode one prompt (one per text encoder in HunyuanDiT)."""
    lengths: Callable[[Sequence[Any]], list[int]] = layouts.own_lengths
    """(results of those calls) -> number of text positions of each row."""
    negative_first: bool = True
    """Whether a batch that holds both branches begins with the negative prompt's."""
    layout: layouts.Place | None = None
    """Joint attention: (keys, text positions, image positions) -> where text and image lie in the sequence."""
    patch: int = 1
    """Latent pixels along one side of an image position. U-Nets have several grids: see `grid`."""
    packing: int | None = None
    """The loop keeps latents as rows, one per square of this many pixels along one side; None: (C, h, w)."""
    other: tuple[str, ...] = ()
    """Pipelines whose denoiser is of this class but works in another way; they are traced without word maps."""
    default: Callable[[Layer, Sequence[Layer]], bool] = layouts.every_layer
    """Whether a layer, among all of them, belongs to the mean that heat_map shows when no layer is asked for."""

    def grid(self, positions: int, latents: Size) -> Size | None:
        """(h, w) of a site's maps from its image positions and the size of the latents."""
        if self.denoiser == "unet":
            return layouts.halved(positions, latents)
        height, width = latents[0] // self.patch, latents[1] // self.patch
        return (height, width) if height * width == positions else None


def _unet_sites(denoiser: nn.Module) -> dict[str, nn.Module]:
    """Cross-attention modules; self-attention of the same class has no width of its own for the text."""
    blocks = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    found = {
        name: module
        for name, module in denoiser.named_modules()
        if getattr(module, "is_cross_attention", False)
        and hasattr(module, "processor")
        and getattr(module, "added_kv_proj_dim", None) is None
    }
    return dict(sorted(found.items(), key=lambda item: blocks.get(item[0].split(".")[0], 1)))


def _sites(*ends: str) -> Callable[[nn.Module], dict[str, nn.Module]]:
    """Attention modules of the main blocks, by how their path ends; refiners of the text alone lie elsewhere."""

    def find(denoiser: nn.Module) -> dict[str, nn.Module]:
        return {
            name: module
            for name, module in denoiser.named_modules()
            if hasattr(module, "processor") and name.endswith(ends) and "refiner" not in name
        }

    return find


FAMILIES = (
    Family(
        name="cross-attention U-Net",
        models=("UNet2DConditionModel",),
        denoiser="unet",
        kind="cross",
        sites=_unet_sites,
        streams=(Stream(("tokenizer", "tokenizer_2")),),
        default=layouts.fine_enough,
    ),
    Family(
        name="PixArt",
        models=("PixArtTransformer2DModel",),
        kind="cross",
        sites=_sites(".attn2"),
        streams=(Stream(("tokenizer",)),),
        encoded=(0, 2),
        patch=2,
    ),
    Family(
        name="Sana",
        models=("SanaTransformer2DModel",),
        kind="cross",
        sites=_sites(".attn2"),
        streams=(Stream(("tokenizer",), take=first_and_last),),
        encoded=(0, 2),
    ),
    Family(
        name="HunyuanDiT",
        models=("HunyuanDiT2DModel",),
        kind="cross",
        sites=_sites(".attn2"),
        streams=(Stream(("tokenizer",), "CLIP"), Stream(("tokenizer_2",), "T5")),
        calls=2,
        lengths=layouts.summed_lengths,
        patch=2,
    ),
    Family(
        name="Stable Diffusion 3",
        models=("SD3Transformer2DModel",),
        sites=_sites(".attn"),  # attn2 of SD3.5 is the image's alone
        streams=(Stream(("tokenizer", "tokenizer_2"), "CLIP"), Stream(("tokenizer_3",), "T5")),
        layout=layouts.image_first,
        patch=2,
    ),
    Family(
        name="FLUX.1",
        models=("FluxTransformer2DModel",),
        sites=_sites(".attn"),
        streams=(Stream(("tokenizer_2",)),),
        encoded=(0, None),
        layout=layouts.text_first,
        patch=2,
        packing=2,
    ),
    Family(
        name="Chroma",
        models=("ChromaTransformer2DModel",),
        sites=_sites(".attn"),
        streams=(Stream(("tokenizer",)),),
        encoded=(0, 3),
        layout=layouts.text_first,
        patch=2,
        packing=2,
    ),
    Family(
        name="FLUX.2",
        models=("Flux2Transformer2DModel",),
        sites=_sites(".attn"),
        streams=(Stream(("tokenizer",)),),
        encoded=(0, None),
        layout=layouts.text_first,
        packing=1,
    ),
    Family(
        name="Qwen-Image",
        models=("QwenImageTransformer2DModel",),
        sites=_sites(".attn"),
        streams=(Stream(("tokenizer",), take=after_template),),
        encoded=(0, None),
        layout=layouts.text_first,
        patch=2,
        packing=2,
    ),
    Family(
        name="AuraFlow",
        models=("AuraFlowTransformer2DModel",),
        sites=_sites(".attn"),
        streams=(Stream(("tokenizer",)),),
        encoded=(0, 2),
        layout=layouts.before_image,
        patch=2,
    ),
    Family(
        name="Lumina 2",
        models=("Lumina2Transformer2DModel",),
        sites=_sites(".attn"),
        streams=(Stream(("tokenizer",), take=attended),),
        encoded=(0, 2),
        lengths=layouts.masked_lengths,
        layout=layouts.text_first,
        patch=2,
    ),
    Family(
        name="Z-Image",
        models=("ZImageTransformer2DModel",),
        sites=_sites(".attention"),
        text="cap_feats",
        streams=(Stream(("tokenizer",), take=attended),),
        negative_first=False,
        layout=layouts.padded_image_first,
        other=("ZImageOmniPipeline",),  # text first, and pictures to look at
        patch=2,
    ),
    Family(
        name="CogView3-Plus",
        models=("CogView3PlusTransformer2DModel",),
        sites=_sites(".attn1"),
        streams=(Stream(("tokenizer",)),),
        layout=layouts.text_first,
        patch=2,
    ),
    Family(
        name="CogView4",
        models=("CogView4Transformer2DModel",),
        sites=_sites(".attn1"),
        streams=(Stream(("tokenizer",), take=padded_before),),
        layout=layouts.text_first,
        patch=2,
    ),
    Family(
        name="Ovis-Image",
        models=("OvisImageTransformer2DModel",),
        sites=_sites(".attn"),
        streams=(Stream(("tokenizer",), take=after_beginning),),
        layout=layouts.text_first,
        patch=2,
        packing=2,
    ),
    Family(
        name="HiDream",
        models=("HiDreamImageTransformer2DModel",),
        sites=_sites(".attn1"),
        text="encoder_hidden_states_t5",
        streams=(Stream(("tokenizer_3",), "T5"), Stream(("tokenizer_4",), "Llama", times=2)),
        lengths=layouts.hidream_lengths,
        layout=layouts.image_first,
        patch=2,
    ),
)


_DENOISERS = ("unet", "transformer")
_UNKNOWN = Family(name="", models=(), sites=lambda denoiser: {}, streams=())


def plain(denoiser: Any) -> Any:
    """The denoiser itself, where torch.compile has wrapped it."""
    return getattr(denoiser, "_orig_mod", denoiser)


def find(pipe: Any) -> tuple[Family, nn.Module]:
    """The family of a pipeline and its denoiser (as the pipeline holds it).

    A denoiser of no known family, or without attention to words, gets a `Family` without sites: its run is traced
    without word maps. Raises TypeError for something that is no pipeline, ValueError for one without a denoiser.
    """
    if not (callable(pipe) and isinstance(getattr(pipe, "components", None), dict)):
        raise TypeError(f"pipe must be a diffusers pipeline, not {type(pipe).__name__}")
    for name in _DENOISERS:
        denoiser = getattr(pipe, name, None)
        if isinstance(denoiser, nn.Module):
            classes = {base.__name__ for base in type(plain(denoiser)).__mro__}
            kinds = {base.__name__ for base in inspect.getmro(type(pipe))}
            for family in FAMILIES:
                known = family.denoiser == name and classes & set(family.models) and not kinds & set(family.other)
                if known and family.sites(plain(denoiser)):
                    return family, denoiser
            return replace(_UNKNOWN, name=type(plain(denoiser)).__name__, denoiser=name), denoiser
    looked = ", ".join(f"`{name}`" for name in _DENOISERS)
    raise ValueError(f"{type(pipe).__name__} has no denoiser that can be watched; looked for {looked}")


def is_compiled(denoiser: nn.Module) -> bool:
    """Whether torch.compile is at work in the denoiser: as a whole, or in any block of it."""
    if plain(denoiser) is not denoiser:
        return True
    return any(
        getattr(module, "_compiled_call_impl", None) is not None or type(module).__name__ == "OptimizedModule"
        for module in denoiser.modules()
    )


def unreadable(sites: dict[str, nn.Module]) -> str | None:
    """Why attention cannot be seen where one of these modules computes it, or None."""
    for name, module in sites.items():
        processor = type(getattr(module, "processor", None)).__name__
        for hidden in ("XFormers", "NPU", "XLA"):
            if hidden.lower() in processor.lower():
                return (
                    f"{name} computes attention with {processor}, which shows no attention weights; "
                    "switch to the default processor (pipe.disable_xformers_memory_efficient_attention() or "
                    "denoiser.set_default_attn_processor()) to trace it"
                )
        backend = _backend(getattr(module, "processor", None))
        if "native" not in backend:
            return (
                f"{name} uses the attention backend {backend!r}, which shows no attention weights; call "
                'set_attention_backend("native") on the denoiser to trace it'
            )
    return None


def _backend(processor: Any) -> str:
    """The name of what computes this processor's attention: its own choice, or the one that holds for all."""
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    if not hasattr(processor, "_attention_backend"):
        return "native"  # one that calls torch itself
    chosen = processor._attention_backend or _AttentionBackendRegistry.get_active_backend()[0]
    return str(getattr(chosen, "value", chosen))
