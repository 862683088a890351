"""Importing diffusers and transformers beside other threads that may ask for them at the same moment.

Their packages put another module object in their place in ``sys.modules`` when their import ends. A thread that asks
for one while it is being imported waits for the end, but CPython then gives it the object that it saw first, which
lacks nearly every name: ``from diffusers import StableDiffusionPipeline`` fails in a cell that runs while a widget
still loads. Here the first object learns to pass on what it is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

_LIBRARIES = ("diffusers", "transformers")


@contextmanager
def whole_imports() -> Iterator[None]:
    """Imports of diffusers and transformers that begin in this block are whole for every thread that waits for them."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finds the libraries' packages where they always are, and prepares each before its code runs."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in _LIBRARIES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.submodule_search_locations is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        spec.loader = _Loader(spec.loader.name, str(spec.loader.path))
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__

        def missing(attribute: str) -> Any:
            now = sys.modules.get(name, module)
            if now is module:
                raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
            return getattr(now, attribute)

        module.__dict__["__getattr__"] = missing
        super().exec_module(module)
