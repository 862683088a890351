"""``dv.load``: a pipeline by name, or the built-in scenes model."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diffvis_widget._compat.library_imports import library_imports
from diffvis_widget.arguments import instance

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def load(name: str | os.PathLike[str] | None = None, **arguments: Any) -> DiffusionPipeline:
    """Load a diffusers pipeline.

    Args:
        name: A model on the Hugging Face hub or a folder, as for ``DiffusionPipeline.from_pretrained``. None loads the
            built-in scenes model, which needs neither a network nor a GPU.
        **arguments: Passed to ``from_pretrained`` (``torch_dtype=``, ``variant=``, ...).

    Returns:
        The pipeline.

    Raises:
        TypeError: There are arguments but no name (the scenes model takes none), or the name is no text.
        ValueError: The name is empty.
        OSError: The model does not exist, or there is no network to download it.

    Example:
        >>> import diffvis_widget as dv
        >>> type(dv.load()).__name__
        'StableDiffusionPipeline'
    """
    if name is None:
        if arguments:
            raise TypeError(f"the built-in scenes model takes no argument {', '.join(arguments)}: give a name as well")
        from diffvis_widget import scenes

        return scenes.load()
    instance("name", name, (str, os.PathLike), 'the name of a model, such as "stabilityai/sd-turbo", or a folder')
    if not str(name).strip():
        raise ValueError("name is empty: give the name of a model or a folder, or None for the scenes model")
    with library_imports():
        from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(name, **arguments)


def load_in_stages(name: str | None, report: Callable[[str, float], object]) -> DiffusionPipeline:
    """Load a pipeline as `load` does, and report what is being loaded.

    Args:
        name: As for `load`.
        report: Called at the beginning of each stage, with what is loaded now and the share of the time that the
            earlier stages take for the built-in model, 0..1. What this process has imported already takes no time.

    Returns:
        The pipeline. Raises what `load` raises.
    """
    with library_imports():
        report("PyTorch (1 of 4)", 0.0)
        import torch  # noqa: F401 - what takes the time is the import

        report("transformers (2 of 4)", 0.25)
        from transformers import CLIPTextModel  # noqa: F401

        report("diffusers (3 of 4)", 0.75)
        from diffusers import StableDiffusionPipeline  # noqa: F401
    report("its weights (4 of 4)", 0.95)
    return load(name)
