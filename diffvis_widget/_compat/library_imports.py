"""Import diffusers and transformers: while other threads may import them too, and only what is used.

Both packages replace their own entry in ``sys.modules`` at the end of their import (``_LazyModule``). A thread that
imports a package while another thread is importing it waits for the end, but CPython then returns the module object
that the thread had seen first (https://github.com/python/cpython/issues/143650). That object lacks nearly every name:
``from diffusers import StableDiffusionPipeline`` fails in a cell that runs while a widget loads its model. Here the
first object forwards missing names to the one that replaced it.

Every scheduler of diffusers imports ``scipy.stats``, half a second of work, for one distribution that it draws noise
levels from where ``use_beta_sigmas`` is set. They write ``scipy.stats.beta``, and scipy imports a submodule when it is
first used as an attribute (https://github.com/scipy/scipy/pull/15230). So that statement imports nothing here.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

from .garbage_collection import collection_paused

_LIBRARIES = ("diffusers", "transformers")
_DEFERRED = "scipy.stats"


@contextmanager
def library_imports() -> Iterator[None]:
    """Make imports of diffusers and transformers in this block faster, and safe for every thread that waits for them.

    Yields:
        Nothing.
    """
    finder = _Finder()
    with collection_paused():
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            _forget_deferred()


class _Finder(MetaPathFinder):
    """Finds packages as usual, but loads those named above with the loaders below. Serves its own thread only."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self.defers = True

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        _forget_deferred()
        is_library = fullname.partition(".")[0] in _LIBRARIES
        if not is_library and not (fullname == _DEFERRED and self._defers_here()):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.submodule_search_locations is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        name, file = spec.loader.name, str(spec.loader.path)
        spec.loader = _ForwardingLoader(name, file) if is_library else _DeferringLoader(name, file, self)
        return spec

    def _defers_here(self) -> bool:
        return self.defers and threading.get_ident() == self._thread and hasattr(_parent(), "__getattr__")


class _ForwardingLoader(SourceFileLoader):
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


class _DeferringLoader(SourceFileLoader):
    """Leaves a module empty. It is removed before the next import; until then it imports the real one for any name.

    Args:
        fullname: Name of the module.
        path: Its file.
        finder: Defers no further imports once the module was used.
    """

    def __init__(self, fullname: str, path: str, finder: _Finder) -> None:
        super().__init__(fullname, path)
        self._finder = finder

    def exec_module(self, module: ModuleType) -> None:
        def forward(attribute: str) -> Any:
            self._finder.defers = False  # it is used at once
            _forget_deferred()
            return getattr(importlib.import_module(_DEFERRED), attribute)

        module.__dict__.update(__getattr__=forward, __deferred__=True)


def _parent() -> ModuleType | None:
    return sys.modules.get(_DEFERRED.rpartition(".")[0])


def _forget_deferred() -> None:
    """Remove an empty module from where an import puts it: ``sys.modules`` and its parent's attributes."""
    module = sys.modules.get(_DEFERRED)
    if module is None or "__deferred__" not in module.__dict__:
        return
    sys.modules.pop(_DEFERRED, None)
    name = _DEFERRED.rpartition(".")[2]
    parent = _parent()
    if parent is not None and parent.__dict__.get(name) is module:
        parent.__dict__.pop(name, None)
