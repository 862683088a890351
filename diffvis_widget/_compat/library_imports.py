"""Import diffusers and transformers while other threads may import them too.

Both packages replace their own entry in ``sys.modules`` at the end of their import (``_LazyModule``). A thread that
imports a package while another thread is importing it waits for the end, but CPython then returns the module object
that the thread had seen first (https://github.com/python/cpython/issues/143650). That object lacks nearly every name:
``from diffusers import StableDiffusionPipeline`` fails in a cell that runs while a widget loads its model. Here the
first object forwards missing names to the one that replaced it.
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
def thread_safe_imports() -> Iterator[None]:
    """Make imports of diffusers and transformers that begin in this block safe for every thread that waits for them.

    Yields:
        Nothing.
    """
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finds the packages of the libraries as usual, but loads them with `_Loader`."""

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
    """Gives a module a ``__getattr__`` (PEP 562) before it runs, which forwards to the module that replaces it."""

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__

        def forward(attribute: str) -> Any:
            current = sys.modules.get(name, module)
            if current is module:
                raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
            return getattr(current, attribute)

        module.__dict__["__getattr__"] = forward
        super().exec_module(module)
