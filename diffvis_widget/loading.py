"""``dv.load``: a pipeline by name, or the built-in scenes model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffvis_widget._compat.library_imports import thread_safe_imports

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def load(name: str | None = None, **arguments: Any) -> DiffusionPipeline:
    """Load a diffusers pipeline.

    Args:
        name: A model on the Hugging Face hub or a folder, as for ``DiffusionPipeline.from_pretrained``. None loads the
            built-in scenes model, which needs neither a network nor a GPU.
        **arguments: Passed to ``from_pretrained`` (``torch_dtype=``, ``variant=``, ...).

    Returns:
        The pipeline.

    Raises:
        TypeError: There are arguments but no name; the scenes model takes none.
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
    with thread_safe_imports():
        from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(name, **arguments)
