"""The built-in scenes model: a small Stable Diffusion pipeline, and the rendered world that it was trained on.

`load` returns the pipeline. `draw` renders a scene with its caption and a ground-truth mask for each word that refers
to a part of the image.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffvis_widget._compat.library_imports import library_imports
from diffvis_widget._compat.torch_defaults import build_with_weights
from diffvis_widget.shipped import MARK, WEIGHTS, clip_folder, has_scenes_mark, is_scenes_model

from .render import Scene, draw
from .world import unknown_words, vocabulary_groups

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

__all__ = ["MARK", "WEIGHTS", "Scene", "clip_folder", "draw", "is_scenes", "load", "unknown_words", "vocabulary_groups"]

_load_lock = threading.Lock()  # the progress bar settings of the libraries belong to the whole process


def load() -> StableDiffusionPipeline:
    """Load the scenes model: a `StableDiffusionPipeline` in float32 on the CPU, 96 x 96 pixels, without a network.

    Its scheduler is a `DPMSolverMultistepScheduler` (v-prediction, zero terminal signal-to-noise ratio).

    Returns:
        The pipeline, with its progress bar switched off.

    Raises:
        FileNotFoundError: The package does not contain the weights.

    Example:
        >>> from diffvis_widget import scenes
        >>> pipe = scenes.load()
        >>> pipe("a red circle", num_inference_steps=2).images[0].size
        (96, 96)
    """
    folder = WEIGHTS / "pipeline"
    if not (folder / "model_index.json").exists():
        raise FileNotFoundError(
            f"the scenes model's weights are missing from {folder}: reinstall diffvis-widget, "
            "or train them with `python -m diffvis_widget.scenes.training`"
        )
    with _load_lock, library_imports():
        import torch
        from diffusers import StableDiffusionPipeline

        with no_progress_bars():
            networks = _load_networks(folder)
            pipe = StableDiffusionPipeline.from_pretrained(
                folder, **networks, local_files_only=True, low_cpu_mem_usage=False
            )
    pipe.unet.to(memory_format=torch.channels_last)  # a tenth faster for convolutions this small
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _load_networks(folder: Path) -> dict[str, Any]:
    """The three networks of the pipeline by name; see `build_with_weights` for why not by ``from_pretrained``."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import load_file
    from transformers import CLIPTextConfig, CLIPTextModel

    networks: dict[str, Any] = {}
    network_classes: dict[str, Any] = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}
    for name, network_class in network_classes.items():
        config = network_class.load_config(folder / name, local_files_only=True)
        weights = load_file(folder / name / "diffusion_pytorch_model.safetensors")
        networks[name] = build_with_weights(partial(network_class.from_config, config), weights)
        networks[name].register_to_config(_name_or_path=str(folder / name))
    text_config = CLIPTextConfig.from_pretrained(folder / "text_encoder", local_files_only=True)
    text_config.name_or_path = str(folder / "text_encoder")
    positions = {"embeddings.position_ids": torch.arange(text_config.max_position_embeddings)[None]}
    weights = load_file(folder / "text_encoder" / "model.safetensors")
    networks["text_encoder"] = build_with_weights(lambda: CLIPTextModel(text_config), weights, positions)
    return networks


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hide the progress bars of diffusers and transformers in this block, and restore the user's setting after it.

    Yields:
        Nothing.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    enabled = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    for library in enabled:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in enabled:
            library.enable_progress_bar()


def is_scenes(pipe: Any) -> bool:
    """Whether a pipeline is the scenes model with its own weights.

    Args:
        pipe: A pipeline, or any other object.

    Returns:
        True for the scenes model.
    """
    if not has_scenes_mark(pipe):  # spares all other pipelines the fingerprint
        return False
    from diffvis_widget.tracer import fingerprint

    return is_scenes_model(fingerprint(pipe))
