"""Checks the evaluations of a traced denoiser, and refuses those that its trace would describe wrongly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from diffvis_widget._compat.torch_compile import is_compiled
from diffvis_widget.tracer.families import Family
from diffvis_widget.traces.types import Size

from .attention import AttentionReader
from .attention_support import hidden_attention
from .fault_guard import CannotRecordError
from .latent_layout import LatentLayout
from .spatial_inputs import SpatialInputs

_MERGED = "tokens are merged or dropped before its attention; remove what merges tokens (ToMe and the like) to trace it"


def check_processors(modules: Mapping[str, nn.Module]) -> None:
    """Check that the attention of some modules can be observed; processors and backends may change inside the block.

    Args:
        modules: Attention modules by dotted path.

    Raises:
        CannotRecordError: It cannot.
    """
    if reason := hidden_attention(modules):
        raise CannotRecordError(reason)


def check_compiled(denoiser: nn.Module) -> None:
    """Check that the denoiser was not compiled inside the block.

    Args:
        denoiser: The denoiser.

    Raises:
        CannotRecordError: It was.
    """
    if is_compiled(denoiser):
        raise CannotRecordError(
            "the denoiser was compiled by torch.compile inside the with block; compile it before, and pass "
            'compiled="eager" to run it uncompiled while it is traced'
        )


def check_input(args: tuple[Any, ...], kwargs: Mapping[str, Any], size: Size | None) -> None:
    """Check that the denoiser receives whole images.

    Args:
        args: Positional arguments of the denoiser.
        kwargs: Keyword arguments of the denoiser.
        size: (h, w) of the latents; None where it is not known.

    Raises:
        CannotRecordError: Its input is an image of another size.
    """
    latents = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.ndim > 2), None)
    if size is None or latents is None or latents.ndim != 4:
        return
    input_size = (int(latents.shape[2]), int(latents.shape[3]))
    if input_size != size:
        raise CannotRecordError(
            f"the denoiser is given {input_size[0]} x {input_size[1]} latents of an image of {size[0]} x {size[1]}: "
            "the pipeline denoises crops, whose heat maps and predictions belong to no whole image"
        )


def check_step(sample: Tensor, size: Size | None, images: int) -> None:
    """Check that a step is made of all images of the call.

    Args:
        sample: (n, C, h, w), the latents before the step.
        size: (h, w) of the latents of the call; None where it is not known.
        images: Number of images of the call.

    Raises:
        CannotRecordError: It is not.
    """
    step_size = (int(sample.shape[-2]), int(sample.shape[-1]))
    if len(sample) != images or step_size != (size or step_size):
        raise CannotRecordError(
            f"a step was made of {len(sample)} latents of {step_size[0]} x {step_size[1]}, but the call makes {images} "
            f"of {' x '.join(map(str, size or step_size))}: steps of crops or of parts of a batch are no steps of an "
            "image"
        )


def check_layers(reader: AttentionReader, grids: SpatialInputs, family: Family, latents: LatentLayout) -> None:
    """Check that each layer was read, with every image token.

    Args:
        reader: What was read in the evaluation that ended.
        grids: The grids that layers work on.
        family: The denoiser's family.
        latents: The layout of the latents.

    Raises:
        CannotRecordError: Tokens were merged or dropped before the attention.
    """
    if not reader.maps:
        return
    if reader.unread:
        layer, keys = next(iter(reader.unread.items()))
        raise CannotRecordError(
            f"{layer} attends to {keys} keys, which are not the tokens of the text"
            f"{'' if family.attention_kind == 'cross' else ' and the image'}: {_MERGED}"
        )
    size = latents.size
    positions = {layer: int(shape[2]) for maps in reader.maps.values() for layer, (_, shape) in maps.places.items()}
    for layer, count in positions.items():
        grid = grids.grid(layer)
        if grid is not None and grid[0] * grid[1] * latents.frames != count:
            raise CannotRecordError(
                f"{layer} works on {grid[0]} x {grid[1]}, but attends from {count} image tokens: {_MERGED}"
            )
        if grid is None and size is not None and family.grid(count, size, latents.frames) is None:
            raise CannotRecordError(
                f"{layer} attends from {count} image tokens, which fit no grid of {size[0]} x {size[1]} latents: "
                f"{_MERGED}"
            )


def check_attention_seen(maps: Mapping[Any, Any]) -> None:
    """Check that attention was seen in the first step.

    Args:
        maps: The attention maps of the step.

    Raises:
        CannotRecordError: There are none.
    """
    if not maps:
        raise CannotRecordError(
            "no attention was seen while the denoiser ran: its processors compute it in a way that cannot be read; "
            "call set_default_attn_processor() on the denoiser to trace it"
        )


def describe_other_text(text: Any, embeddings: Any) -> str:
    """Describe that a denoiser received other text embeddings than its pipeline encoded.

    Args:
        text: The text embeddings that the denoiser received.
        embeddings: The text embeddings of the prompt.

    Returns:
        A sentence without a subject of its own, as a reason.
    """
    return f"its denoiser was given text of shape {_shape(text)} for a prompt encoded to {_shape(embeddings)}"


def describe_hidden_words(is_encoded: bool) -> str:
    """Describe why a step was made although no evaluation with a known prompt was seen.

    Args:
        is_encoded: Whether `encode_prompt` was called.

    Returns:
        The reason.
    """
    if is_encoded:
        return "its denoiser is not called as a module"
    return "it does not encode its prompt by encode_prompt"


def _shape(embeddings: Any) -> Any:
    return tuple(embeddings.shape) if isinstance(embeddings, Tensor) else [tuple(row.shape) for row in embeddings]
