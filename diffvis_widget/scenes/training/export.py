"""Writes trained networks as packaged weights: `save_pretrained` layout, safetensors, half precision."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from open_clip import CLIP
from safetensors.torch import save_file
from transformers import CLIPTokenizer

from diffvis_widget.scenes import WEIGHTS, load
from diffvis_widget.scenes.architecture import clip_config, make_scheduler
from diffvis_widget.scenes.evaluation.judge import Judge
from diffvis_widget.tracer import fingerprint

from .stages import Denoiser

LIMIT = 20_000_000


def make_pipeline(
    vae: AutoencoderKL, denoiser: Denoiser, tokenizer: CLIPTokenizer, latents: tuple[torch.Tensor, torch.Tensor]
) -> StableDiffusionPipeline:
    """Build a pipeline; the scaling factor of the autoencoder gives latents of unit spread.

    Args:
        vae: The autoencoder.
        denoiser: U-Net and text encoder.
        tokenizer: The tokenizer.
        latents: Mean and standard deviation of the latents of the training images.

    Returns:
        The pipeline.
    """
    vae.register_to_config(scaling_factor=latent_scale(latents))
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        unet=denoiser.unet,
        scheduler=make_scheduler(),  # pyright: ignore[reportArgumentType]
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _forget_lengths(tokenizer: CLIPTokenizer) -> None:
    """Keeps the padding and truncation of the last call from being saved with the tokenizer."""
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()


def _forget_origin(folder: Path) -> None:
    """Removes the folder from which packaged networks were loaded."""
    for path in folder.rglob("*.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def export_pipeline(pipe: StableDiffusionPipeline) -> None:
    """Write the pipeline in half precision, and its fingerprint.

    Args:
        pipe: The pipeline.
    """
    folder = WEIGHTS / "pipeline"
    shutil.rmtree(folder, ignore_errors=True)
    _forget_lengths(pipe.tokenizer)
    pipe.to(dtype=torch.float16).save_pretrained(folder)
    _forget_origin(folder)
    (WEIGHTS / "fingerprint.txt").write_text(fingerprint(load().unet) + "\n")


def latent_scale(latents: tuple[torch.Tensor, torch.Tensor]) -> float:
    """The scaling factor of the autoencoder.

    Args:
        latents: Mean and standard deviation of the latents of the training images.

    Returns:
        One over the spread of the means.
    """
    return 1 / latents[0][:4000].float().std().item()


def export_clip(model: CLIP, tokenizer: CLIPTokenizer) -> None:
    """Write the concept model as a folder that open_clip loads by "local-dir:".

    Args:
        model: The network.
        tokenizer: Its tokenizer.
    """
    folder = WEIGHTS / "clip"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    preprocessing = {
        "size": 96,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    config = {"model_cfg": clip_config(), "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    _forget_lengths(tokenizer)
    tokenizer.save_pretrained(folder)


def export_judge(judge: Judge) -> None:
    """Write the judge.

    Args:
        judge: The network.
    """
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in judge.state_dict().items()}
    save_file(state, WEIGHTS / "judge.safetensors")


def check_size() -> int:
    """Measure the packaged weights.

    Returns:
        Bytes.

    Raises:
        RuntimeError: They take more than 20 MB.
    """
    for path in WEIGHTS.rglob("*.safetensors"):
        path.chmod(0o644)  # the writer leaves them to the owner alone
    # the recorded run beside them is not a weight
    total = sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file() and path.suffix != ".run")
    if total > LIMIT:
        raise RuntimeError(f"the weights take {total} bytes; at most {LIMIT} may ship")
    return total
