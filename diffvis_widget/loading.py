"""``dv.load``: a pipeline by name, or the built-in scenes model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from diffvis_widget._compat.library_imports import thread_safe_imports
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
    with thread_safe_imports():
        from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(name, **arguments)
