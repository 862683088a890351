"""What differs from one model family to the next, a few lines each: where its words meet the image.

To add a family: an entry in `FAMILIES` that finds the denoiser, its word-attention modules, which rows of the batch
carry the prompt, and how a number of image positions is laid out as a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from diffvis_widget.traces import Layer

Size = tuple[int, int]


@dataclass(frozen=True)
class Family:
    """How to read one kind of denoiser."""

    name: str
    denoiser: str
    """Attribute of the pipeline that holds the denoiser."""
    kind: Literal["cross", "joint"]
    sites: Callable[[nn.Module], dict[str, nn.Module]]
    """The modules in which image positions attend to the prompt, by dotted path, in order of execution."""
    text: str
    """Argument of the denoiser's forward that carries the text embeddings."""
    conditional: Callable[[Any, int, int], slice]
    """(pipeline, rows of the batch, images) -> the rows that carry the prompt."""
    grid: Callable[[int, Size], Size | None]
    """(image positions of a site, (h, w) of the latents) -> (h, w) of its maps."""
    default: Callable[[Layer, Sequence[Layer]], bool]
    """Whether a layer, among all of them, belongs to the mean that heat_map shows when no layer is asked for."""


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


def _halved_grid(positions: int, latents: Size) -> Size | None:
    """The latent grid halved until it has that many positions; diffusers rounds odd sides up or down by config."""
    for up in (1, 0):
        height, width = latents
        while height * width > positions:
            height, width = (height + up) // 2, (width + up) // 2
            if height * width == positions:
                break
            if not height * width or height * width == 1:
                break
        if height * width == positions:
            return height, width
    return None


def _unet_rows(pipe: Any, rows: int, images: int) -> slice:
    """diffusers' U-Net pipelines put the unconditional half first, and rows with perturbed self-attention last."""
    last = rows - images if getattr(pipe, "do_perturbed_attention_guidance", False) else rows
    return slice(last - images, last)


def _fine_enough(layer: Layer, layers: Sequence[Layer]) -> bool:
    """The cross-attention layers on grids of 64 positions or more; where there are none, those on the finest grid.

    Measured on the scenes model (`python -m diffvis_widget.scenes.localize`): on 12 x 12 a word's attention inside its
    ground-truth mask is three to nine times that outside; on 6 x 6 and 3 x 3 it is hardly above chance.
    """
    cells = [one.grid[0] * one.grid[1] for one in layers]
    own = layer.grid[0] * layer.grid[1]
    return own >= min(64, max(cells))


UNET = Family(
    name="cross-attention U-Net",
    denoiser="unet",
    kind="cross",
    sites=_unet_sites,
    text="encoder_hidden_states",
    conditional=_unet_rows,
    grid=_halved_grid,
    default=_fine_enough,
)
FAMILIES = (UNET,)


def plain(denoiser: Any) -> Any:
    """The denoiser itself, where torch.compile has wrapped it."""
    return getattr(denoiser, "_orig_mod", denoiser)


def find(pipe: Any) -> tuple[Family, nn.Module]:
    """The family of a pipeline and its denoiser (as the pipeline holds it).

    Raises TypeError for something that is no pipeline, ValueError for a pipeline whose denoiser cannot be read.
    """
    if not (callable(pipe) and isinstance(getattr(pipe, "components", None), dict)):
        raise TypeError(f"pipe must be a diffusers pipeline, not {type(pipe).__name__}")
    for family in FAMILIES:
        denoiser = getattr(pipe, family.denoiser, None)
        if isinstance(denoiser, nn.Module) and family.sites(plain(denoiser)):
            return family, denoiser
    looked = ", ".join(f"`{family.denoiser}` ({family.name})" for family in FAMILIES)
    raise ValueError(f"{type(pipe).__name__} has no denoiser that can be read; looked for {looked}")


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
        backend = getattr(getattr(module, "processor", None), "_attention_backend", None)
        if backend is not None and "native" not in str(getattr(backend, "value", backend)):
            return (
                f"{name} uses the attention backend {getattr(backend, 'value', backend)!r}, which shows no attention "
                'weights; call set_attention_backend("native") on the denoiser to trace it'
            )
    return None
