"""The built-in small model: a world of simple scenes with ground truth, and a Stable Diffusion pipeline that paints it.

`load()` gives the pipeline, `draw(seed)` a rendered scene with its caption and a mask for every word that has a place.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from diffvis_widget._compat.library_imports import whole_imports
from diffvis_widget._compat.torch_defaults import own_defaults
from diffvis_widget.shipped import WEIGHTS, clip_folder, fingerprint

from .render import Scene, draw
from .world import unknown_words

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

__all__ = ["MARK", "WEIGHTS", "Scene", "clip_folder", "draw", "fingerprint", "is_scenes", "load", "unknown_words"]

# Written into the text encoder's config, so that the pipeline can be told from any other of its class.
MARK = "diffvis-scenes"
_one_at_a_time = threading.Lock()  # the libraries' progress bars are switched for all threads


def load() -> StableDiffusionPipeline:
    """Load the scenes model: a StableDiffusionPipeline in float32 on the CPU, 96 x 96 pixels, offline.

    Its scheduler is a DPMSolverMultistepScheduler (v-prediction, zero terminal signal-to-noise ratio).

    Raises:
        FileNotFoundError: the weights are not where the package keeps them.
    """
    folder = WEIGHTS / "pipeline"
    if not (folder / "model_index.json").exists():
        raise FileNotFoundError(
            f"the scenes model's weights are missing from {folder}: reinstall diffvis-widget, "
            "or make them with `python -m diffvis_widget.scenes.training`"
        )
    with _one_at_a_time, whole_imports():
        import torch
        from diffusers import StableDiffusionPipeline

        with no_progress_bars(), own_defaults():
            pipe = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False)
    # transformers keeps the half precision of the file, diffusers does not
    pipe.text_encoder.float()
    pipe.unet.to(memory_format=torch.channels_last)  # convolutions this small are quicker so, by a tenth
    pipe.set_progress_bar_config(disable=True)
    return pipe


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Loading takes a second: bars would only leave litter in the notebook. The user's own setting comes back."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()


def is_scenes(pipe: Any) -> bool:
    """Whether a pipeline is the scenes model (any object may be asked)."""
    config = getattr(getattr(pipe, "text_encoder", None), "config", None)
    return getattr(config, "trained_on", None) == MARK
