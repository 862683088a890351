"""LTX-2: cross-attention to Gemma by way of a connector, from text, an image or conditions; its audio is not traced.

The connector moves the text tokens to the front, and learned registers take the place of padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from diffvis_widget.call_defaults import is_modular
from diffvis_widget.tracer.fault_guard import CannotRecordError
from diffvis_widget.tracer.words import Token

from . import ltx
from .family import pipelines_named
from .token_streams import TokenStream
from .video_frames import VideoFrames


def _connected(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    if pipe.connectors.config.video_connector_num_learnable_registers is None:
        return list(tokens)
    return sorted(tokens, key=lambda token: not token.attended)


def _frames(pipe: Any, prepared: Any, arguments: Mapping[str, Any], call: Mapping[str, Any]) -> VideoFrames:
    """With conditions, `prepare_latents` also returns clean latents, and positions of tokens behind the video.

    These are keyframes, and the frames of reference videos.
    """
    if is_modular(pipe) and any(call.get(name) is not None for name in ("conditions", "reference_conditions")):
        raise CannotRecordError("conditions are traced in LTX2ConditionPipeline, not in LTX2ModularPipeline")
    if not isinstance(prepared, tuple):
        return VideoFrames()
    if len(cast("tuple[Any, ...]", prepared)) >= 4:
        latents, _, _, positions, *_ = cast("tuple[Any, ...]", prepared)
        return VideoFrames(tokens=slice(latents.shape[1] - (0 if positions is None else positions.shape[2])))
    return ltx.first_frame(pipe, prepared, arguments)


FAMILY = replace(
    ltx.FAMILY,
    name="LTX-2",
    denoisers=("LTX2VideoTransformer3DModel",),
    accepts=pipelines_named(
        "LTX2Pipeline",
        "LTX2ImageToVideoPipeline",
        "LTX2ConditionPipeline",
        "LTX2InContextPipeline",
        "LTX2HDRPipeline",
        "LTX2ModularPipeline",
    ),
    token_streams=(TokenStream(("tokenizer",), select=_connected),),
    connector="connectors",
    video_frames=_frames,
)
