"""JoyImage-Edit-Plus: the image, several references, and the text at the end of one sequence, padded in the batch.

The loop keeps latents as patches (n, patches, C, 1, 2, 2), those of the image first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from diffvis_widget.tracer.guidance import norm_preserving
from diffvis_widget.traces.types import Size

from . import joyimage, sequence_layouts
from .family import Family, modules_ending
from .latent_forms import LatentForm
from .token_streams import TokenStream

_PATCH = 2
_FRAME = ("<|im_start|>user\n", "<|im_end|>\n")


def _size(pipe: Any, arguments: Mapping[str, Any], latents: Tensor) -> Size:
    scale = int(pipe.vae_scale_factor_spatial)
    return int(arguments["height"]) // scale, int(arguments["width"]) // scale


def _take(latents: Tensor, size: Size) -> Tensor:
    height, width = size[0] // _PATCH, size[1] // _PATCH
    patches = latents[:, : height * width].unflatten(1, (height, width))[:, :, :, :, 0]  # (n, h, w, C, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def _put(latents: Tensor, image: Tensor) -> Tensor:
    patches = image.unflatten(3, (-1, _PATCH)).unflatten(2, (-1, _PATCH)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    changed = latents.clone()
    changed[:, : patches.shape[1], :, 0] = patches
    return changed


def _shapes(arguments: Mapping[str, Any], row: int) -> list[Size]:
    """The token grids of a row: of the image, then of its references."""
    return [(int(height), int(width)) for _, height, width in arguments["shape_list"][row]]


def _reference_grids(arguments: Mapping[str, Any], row: int, image: int) -> list[Size]:
    return _shapes(arguments, row)[1:]


def _row_layouts(arguments: Mapping[str, Any]) -> Sequence[sequence_layouts.SequenceLayout]:
    """The references, and padding of the batch, stand between the image and the text."""
    rows = [_shapes(arguments, row)[0] for row in range(len(arguments["shape_list"]))]
    patches = int(arguments["hidden_states"].shape[1])
    others = [patches - height * width for height, width in rows]
    return [sequence_layouts.text_after(sequence_layouts.image_then_rest, count) for count in others]


def _rows(result: Any) -> Any:
    """The embeddings of each prompt, which are padded to one length in the batch."""
    embeddings, mask = result
    return [row[part.bool()] for row, part in zip(embeddings, mask, strict=True)], mask


def _prompts(arguments: Mapping[str, Any], call: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the turn of a chat and the places of references that the pipeline has put around them."""
    prompts = arguments["prompt"]
    bare = [
        text.removeprefix(_FRAME[0]).removesuffix(_FRAME[1]).replace("<image>\n", "")
        for text in ([prompts] if isinstance(prompts, str) else prompts)
    ]
    return {**arguments, "prompt": bare}


FAMILY = Family(
    name="JoyImage-Edit-Plus",
    denoisers=("JoyImageEditPlusTransformer3DModel",),
    attention_modules=modules_ending(".attn"),
    token_streams=(TokenStream(("tokenizer",), select=joyimage.after_template),),
    encoded=_rows,
    prompt_arguments=_prompts,
    embedding_indices=(0, None),
    guidance_candidates=norm_preserving(1),
    sequence_layout=sequence_layouts.image_then_rest,
    row_layouts=_row_layouts,
    patch_size=_PATCH,
    latent_form=LatentForm(6, _size, _take, _put),
    reference_grids=_reference_grids,
)
