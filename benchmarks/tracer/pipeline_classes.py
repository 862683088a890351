"""What the class of a pipeline of diffusers says about its denoiser, for the tables of pipelines."""

from __future__ import annotations

import inspect
import typing


def denoiser_of(pipeline: type) -> tuple[str, list[str]] | None:
    """The constructor's argument that takes the denoiser, and the names of its possible classes."""
    try:
        hints = typing.get_type_hints(pipeline.__init__)
    except NameError:  # an optional package's class that is not there
        hints = dict(getattr(pipeline.__init__, "__annotations__", {}))
    for name in ("unet", "transformer"):
        if name in inspect.signature(pipeline).parameters:
            hint = hints.get(name)
            kinds = typing.get_args(hint) or (hint,)
            return name, [getattr(kind, "__name__", str(kind)) for kind in kinds if kind not in (None, type(None))]
    return None
