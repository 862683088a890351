"""``dv.load``: a pipeline by name, or the built-in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffvis_widget._compat.library_imports import thread_safe_imports

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def load(name: str | None = None, **arguments: Any) -> DiffusionPipeline:
    """A diffusers pipeline.

    Args:
        name: a model on the Hugging Face hub or a folder, as for ``DiffusionPipeline.from_pretrained``; None for the
            built-in scenes model, which needs neither a network nor a GPU.
        **arguments: go to ``from_pretrained`` (``torch_dtype=``, ``variant=``, ...).

    Raises:
        TypeError: arguments without a name: the scenes model takes none.
        OSError: there is no such model, or no network to fetch it.
    """
    if name is None:
        if arguments:
            raise TypeError(f"the built-in scenes model takes no argument {', '.join(arguments)}: give a name too")
        from diffvis_widget import scenes

        return scenes.load()
    with thread_safe_imports():
        from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(name, **arguments)
