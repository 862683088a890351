"""Why videos of some pipelines cannot be traced, as was found in the sources of diffusers 0.42."""

from __future__ import annotations

from typing import Any

_BEFORE_OTHERS = "it denoises its first frame alone for a part of the steps, and makes the others of it"
_IN_SECTIONS = "it makes a video in sections, each with latents of its own"
_PACKED = "is packed into one sequence without a batch, whose layout changes with the inputs"

REASONS = {
    "TextToVideoZero": _BEFORE_OTHERS,
    "StableVideoDiffusion": "it reads no text",
    "HunyuanVideoImageToVideo": "its text encoder reads an image between the words, whose places are not known",
    "HunyuanVideoFramepack": _IN_SECTIONS,
    "LTX2LatentUpsample": "it has no denoiser",
    "LTX2DFR": "it is one of several pipelines that refine a video in turn, by slots of keyframes and by tiles",
    "LTXI2VLongMultiPrompt": "it makes a video in sections, each with a prompt of its own",
    "Helios": _IN_SECTIONS,
    "DiffusionForcing": "each of its frames has a scheduler of its own, so that no step is of the whole video",
    "AnyFlowFAR": _IN_SECTIONS,
    "WanAnimate2": "it makes a video in sections that follow another video",
    "EasyAnimateControl": "diffusers 0.42.1 cannot run it: it passes its own encode_prompt an argument that it lacks",
    "CosmosTextToWorld": "its loop makes two steps of the scheduler in the place of one, the first for both branches",
    "CosmosVideoToWorld": "its loop makes two steps of the scheduler in the place of one, the first for both branches",
    "Allegro": "its autoencoder makes four frames of each latent frame, the first one too, of which a trace has one, "
    "and decodes nothing but whole tiles of 24 frames",
    "SanaWM": "its loop decides frame by frame, after each step of the scheduler, whether to take its result",
    "Cosmos2_5_Transfer": "it makes a video in sections, each of which begins with frames of the one before",
    "Cosmos3Omni": f"text, video, sound and actions are one stream: each part {_PACKED}",
    "MiniMaxH3": f"text, video and sound are one stream, which {_PACKED}",
    "Echo": "it makes its steps itself, without a scheduler, so that none is seen",
    "MiniMaxMusic3": "it makes a sound",
}
"""By a part of the name of a pipeline; the first part that fits counts."""


def reason_for(name: str) -> str | None:
    """Look up why videos of a pipeline cannot be traced.

    Args:
        name: Name of its class.

    Returns:
        The reason, as the end of a sentence; None where none is known.
    """
    return next((reason for part, reason in REASONS.items() if part in name), None)


def unfollowed_mode(pipe: Any) -> str | None:
    """Look up why the way in which AnimateDiff is set to run cannot be traced.

    Args:
        pipe: Any pipeline.

    Returns:
        The reason with its remedy, as a sentence without its end; None for other pipelines, and for the plain loop.
    """
    name = type(pipe).__name__
    if getattr(pipe, "free_init_enabled", False):
        return f"with FreeInit {name} makes the video several times in one call: call disable_free_init()"
    if getattr(pipe, "free_noise_enabled", False):
        return f"with FreeNoise {name} interpolates the text of each frame between prompts: call disable_free_noise()"
    modules = getattr(getattr(pipe, "unet", None), "modules", lambda: ())()
    if any(type(module).__name__ == "SplitInferenceModule" for module in modules):
        return f"the attention of {name} is split into parts of the batch: do not enable_free_noise_split_inference()"
    return None
