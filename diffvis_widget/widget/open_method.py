"""The name ``open``, which means two things: ``DiffVis.open(path)``, and the method of ipywidgets on an instance."""

from __future__ import annotations

import functools
import os
from typing import Any

import anywidget


class OpenMethod:
    """``DiffVis.open(path)`` opens a file. On an instance it is ipywidgets' own ``open()``, which opens the comm."""

    def __get__(self, instance: anywidget.AnyWidget | None, owner: type[Any]) -> Any:
        if instance is not None:
            return functools.partial(anywidget.AnyWidget.open, instance)

        def open_file(path: str | os.PathLike[str], **arguments: Any) -> Any:
            from diffvis_widget.files import open_trace

            return owner(open_trace(path), **arguments)

        return open_file
